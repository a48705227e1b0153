"""Detects objects with a model of `msrcnn export --format onnx`. Needs onnxruntime, numpy, Pillow.

python onnx_inference.py MODEL.onnx PHOTO.jpg DRAWN.png [MIN_SCORE]
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def read(photo: str, settings: dict) -> Image.Image:
    """Reads an image upright and of 8 bits, as in the training."""
    image = ImageOps.exif_transpose(Image.open(photo))
    if image.mode.startswith(("I", "F")):  # more than 8 bits
        if not settings["value_range"]:
            raise SystemExit(f"{photo} has more than 8 bits; the model knows images of 8 bits only")
        low, high = settings["value_range"]
        levels = np.rint((np.asarray(image, float) - low) * (255 / (high - low)))
        image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    return image.convert("RGB")


def detect(session: onnxruntime.InferenceSession, image: Image.Image, settings: dict) -> dict:
    """Returns the outputs by name, with boxes in pixels of the image, RGB."""
    short, long = settings["min_size_test"], settings["max_size_test"]
    # As in the training; 0 is the size of the image.
    scale = min(short / min(image.size), long / max(image.size)) if short else 1
    size = [int(side * scale + 0.5) for side in image.size]
    one_channel = settings["input_format"] == "L"
    resized = (image.convert("L") if one_channel else image).resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(resized).reshape(*size[::-1], -1)
    if settings["input_format"] == "BGR":
        pixels = pixels[:, :, ::-1]
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"image": np.ascontiguousarray(pixels.transpose(2, 0, 1))})
    found = dict(zip(names, found))
    found["pred_boxes"] *= np.float32([a / b for a, b in zip(image.size, size)] * 2)
    return found


def paste(mask: np.ndarray, box: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns a mask (1, M, M) of probabilities in a box as bool (height, width)."""
    (low, high), count = box.reshape(2, 2), mask.shape[-1]
    weights = []  # of bilinear interpolation, which is 0 outside of the box
    for axis, length in enumerate((width, height)):
        position = (np.arange(length) + 0.5 - low[axis]) / (high[axis] - low[axis]) * count - 0.5
        weights.append(np.maximum(0, 1 - abs(position[:, None] - np.arange(count))))
    return weights[1] @ mask[0] @ weights[0].T >= 0.5


def main(model: str, photo: str, drawn: str, min_score: str = "0.5") -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    settings = {name: json.loads(text) for name, text in texts.items()}
    image = read(photo, settings)
    found = detect(session, image, settings)
    draw = ImageDraw.Draw(image)
    for row in np.flatnonzero(found["scores"] >= float(min_score)):
        box, label = found["pred_boxes"][row], int(found["pred_classes"][row])
        name = settings["class_names"][label] if settings["class_names"] else label
        mask = paste(found["pred_masks"][row], box, *image.size)
        image.paste("red", mask=Image.fromarray(mask).convert("L").point(lambda p: p // 3))
        draw.rectangle(box.tolist(), outline="red")
        text = f"{name} {box.astype(int)} box score {found['scores'][row]:.3f}"
        if "mask_scores" in found:  # not of a plain Mask R-CNN
            mask_score = found["mask_scores"][row]
            text += f", mask score {mask_score:.3f}"
            if settings["calibration"]:
                slope, offset = settings["calibration"]
                odds = np.exp(slope * np.log(mask_score) + offset)
                text += f", right with probability {odds / (1 + odds):.3f}"
        print(text)
    image.save(drawn)


if __name__ == "__main__":
    main(*sys.argv[1:])
