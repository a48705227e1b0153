#!/usr/bin/env python
"""Detect objects in images, and draw them with their box score and mask score."""

from pathlib import Path

from msrcnn.engine import Predictor, model_argument_parser, model_config, run_tool
from msrcnn.errors import UserError
from msrcnn.visualization import draw_detections, read_rgb


def check_outputs(outputs: dict[Path, Path]) -> None:
    """Refuse to write over an image that is read, or over another picture."""
    taken = {path.resolve() for path in outputs}
    for path, output in outputs.items():
        if output.resolve() in taken:
            raise UserError(f"the picture of '{path}' would be written over '{output}'")
        taken.add(output.resolve())


def main() -> None:
    parser = model_argument_parser(__doc__)
    parser.add_argument("images", metavar="IMAGE", type=Path, nargs="+")
    parser.add_argument("--output", metavar="D", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--min-score", type=float, default=0.5, help="least box score drawn (default: %(default)s)"
    )
    args = parser.parse_args()
    outputs = {path: args.output / f"{path.stem}.png" for path in args.images}
    check_outputs(outputs)
    predict = Predictor(model_config(args), trust_weights=args.trust_weights)
    args.output.mkdir(parents=True, exist_ok=True)
    for path, output in outputs.items():
        pixels = read_rgb(path)
        instances = predict(pixels)
        picture = draw_detections(pixels, instances, predict.class_names, args.min_score)
        picture.save(output)
        shown = int((instances.scores >= args.min_score).sum())
        print(f"{path}: {shown} of {len(instances)} detections drawn in {output}")


if __name__ == "__main__":
    run_tool(main)
