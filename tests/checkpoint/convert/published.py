"""Names and shapes of the parameters of published models, according to the libraries' code."""

from reference import resnet_shapes, weight_and_bias

R50, R101 = (3, 4, 6, 3), (3, 4, 23, 3)


def maskscoring_rcnn(blocks=R50, *, base=64, channels=256, fc=1024, maskiou=True):
    """Returns those of the authors' maskscoring_rcnn: 81 classes, background first."""
    box, mask, iou = (f"roi_heads.{head}" for head in ("box", "mask", "maskiou"))
    body = "backbone.body."
    shapes = resnet_shapes(body, f"{body}stem.", blocks=blocks, base=base)
    for i in range(4):
        shapes |= weight_and_bias(f"backbone.fpn.fpn_inner{i + 1}", channels, 4 * base * 2**i, 1, 1)
        shapes |= weight_and_bias(f"backbone.fpn.fpn_layer{i + 1}", channels, channels, 3, 3)
    shapes |= {f"rpn.anchor_generator.cell_anchors.{i}": (3, 4) for i in range(5)}
    shapes |= weight_and_bias("rpn.head.conv", channels, channels, 3, 3)
    shapes |= weight_and_bias("rpn.head.cls_logits", 3, channels, 1, 1)
    shapes |= weight_and_bias("rpn.head.bbox_pred", 12, channels, 1, 1)
    shapes |= weight_and_bias(f"{box}.feature_extractor.fc6", fc, channels * 49)
    shapes |= weight_and_bias(f"{box}.feature_extractor.fc7", fc, fc)
    shapes |= weight_and_bias(f"{box}.predictor.cls_score", 81, fc)
    shapes |= weight_and_bias(f"{box}.predictor.bbox_pred", 324, fc)
    for i in range(4):
        shapes |= weight_and_bias(
            f"{mask}.feature_extractor.mask_fcn{i + 1}", channels, channels, 3, 3
        )
    deconv = (channels, channels, 2, 2)
    shapes |= weight_and_bias(f"{mask}.predictor.conv5_mask", *deconv, transposed=True)
    shapes |= weight_and_bias(f"{mask}.predictor.mask_fcn_logits", 81, channels, 1, 1)
    if maskiou:
        for i in range(4):
            shapes |= weight_and_bias(
                f"{iou}.feature_extractor.maskiou_fcn{i + 1}", channels, channels + (not i), 3, 3
            )
        shapes |= weight_and_bias(f"{iou}.feature_extractor.maskiou_fc1", fc, channels * 49)
        shapes |= weight_and_bias(f"{iou}.feature_extractor.maskiou_fc2", fc, fc)
        shapes |= weight_and_bias(f"{iou}.predictor.maskiou", 81, fc)
    return shapes


def mmdet(blocks=R50, *, base=64, width=None, groups=1, channels=256, fc=1024, maskiou=True):
    """Returns those of mmdetection 2.x and 3.x: background last, only in the classifier."""
    box, mask, iou = (f"roi_head.{head}_head" for head in ("bbox", "mask", "mask_iou"))
    shapes = resnet_shapes(
        *("backbone.", "backbone."), blocks=blocks, base=base, width=width, groups=groups
    )
    norms = [name.rpartition(".")[0] for name in shapes if name.endswith("running_var")]
    shapes |= {f"{norm}.num_batches_tracked": () for norm in norms}
    for i in range(4):
        shapes |= weight_and_bias(f"neck.lateral_convs.{i}.conv", channels, 4 * base * 2**i, 1, 1)
        shapes |= weight_and_bias(f"neck.fpn_convs.{i}.conv", channels, channels, 3, 3)
    shapes |= weight_and_bias("rpn_head.rpn_conv", channels, channels, 3, 3)
    shapes |= weight_and_bias("rpn_head.rpn_cls", 3, channels, 1, 1)
    shapes |= weight_and_bias("rpn_head.rpn_reg", 12, channels, 1, 1)
    shapes |= weight_and_bias(f"{box}.fc_cls", 81, fc)
    shapes |= weight_and_bias(f"{box}.fc_reg", 320, fc)
    shapes |= weight_and_bias(f"{box}.shared_fcs.0", fc, channels * 49)
    shapes |= weight_and_bias(f"{box}.shared_fcs.1", fc, fc)
    for i in range(4):
        shapes |= weight_and_bias(f"{mask}.convs.{i}.conv", channels, channels, 3, 3)
    shapes |= weight_and_bias(f"{mask}.upsample", channels, channels, 2, 2, transposed=True)
    shapes |= weight_and_bias(f"{mask}.conv_logits", 80, channels, 1, 1)
    if maskiou:
        for i in range(4):
            shapes |= weight_and_bias(f"{iou}.convs.{i}", channels, channels + (not i), 3, 3)
        shapes |= weight_and_bias(f"{iou}.fcs.0", fc, channels * 49)
        shapes |= weight_and_bias(f"{iou}.fcs.1", fc, fc)
        shapes |= weight_and_bias(f"{iou}.fc_mask_iou", 80, fc)
    return shapes
