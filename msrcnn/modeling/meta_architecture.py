"""Which models detect as Detectron2's ``GeneralizedRCNN`` does."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN

from ..errors import UserError


def has_rcnn_inference(model_class: type) -> bool:
    """Whether ``model.inference(images, do_postprocess=False)`` returns a list of ``Instances``.

    A subclass that overrides it may return something else, as ``PanopticFPN`` does.
    """
    return getattr(model_class, "inference", None) is GeneralizedRCNN.inference


def check_rcnn(cfg: CfgNode, what: str) -> None:
    """Rejects models that do not detect in images alone, or not as ``GeneralizedRCNN`` does.

    Args:
        cfg: config of the model.
        what: what needs such a model, for the start of the message.

    Raises:
        UserError: naming the key.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if not has_rcnn_inference(META_ARCH_REGISTRY.get(name)):
        raise UserError(
            f"{what} needs MODEL.META_ARCHITECTURE 'GeneralizedRCNN', or a subclass with the same "
            f"inference, not '{name}'"
        )
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "PrecomputedProposals":
        raise UserError(
            f"{what} needs a model that proposes boxes itself, such as by an RPN, not "
            "MODEL.PROPOSAL_GENERATOR.NAME 'PrecomputedProposals'"
        )
