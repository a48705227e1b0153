from functools import partial

from msrcnn.data import object_sizes

size_advice = partial(object_sizes.size_advice, detections=100)


def content(number, width):
    return {
        "images": [{"id": 1, "width": 400, "height": 200}, {"id": 2, "width": 50, "height": 50}],
        "annotations": [{"image_id": 1, "bbox": [0, 0, width, 30]} for _ in range(number)],
    }


def test_size_that_makes_objects_wide_enough():
    first, second = size_advice(content(100, 10))  # 10 of 200 pixels: 16 at a short side of 320
    assert first == (
        "objects: at most 100 in an image; half are at least 10 pixels wide, 95% at least 10"
    )
    assert "--size 320 makes half of them at least 16 pixels wide, --size 320 95%" in second


def test_half_and_95_percent_of_the_objects():
    objects = content(101, 0)
    for width, annotation in enumerate(objects["annotations"], start=1):
        annotation["bbox"] = [0, 0, width, 150]
    assert "half are at least 51 pixels wide, 95% at least 6" in size_advice(objects)[0]


def test_small_objects_and_small_images():
    few = content(9, 30)
    few["annotations"].append({"image_id": 2, "bbox": [0, 0, 40, 1]})
    assert "--size 107 makes half" in size_advice(few)[1]
    assert "--size 204 95%" in size_advice(few)[1]  # interpolated, in shares of the short sides


def test_more_objects_than_detections():
    assert "TEST.DETECTIONS_PER_IMAGE 101" in size_advice(content(101, 10))[-1]


def test_crowds_do_not_count():
    crowd = content(101, 10)
    crowd["annotations"][0]["iscrowd"] = 1
    assert "at most 100" in size_advice(crowd)[0]
    assert len(size_advice(crowd)) == 2


def test_boxes_without_width():
    assert len(size_advice(content(3, 0))) == 1


def test_no_objects():
    assert size_advice(content(0, 10)) == []
    assert size_advice({"images": [], "categories": []}) == []
