#!/usr/bin/env python
"""Write a trained model's weights alone, and its config beside them."""

from pathlib import Path

from msrcnn.engine import export_model, model_argument_parser, model_config, run_tool


def main() -> None:
    parser = model_argument_parser(__doc__)
    parser.add_argument(
        "--output", metavar="OUT", type=Path, required=True, help="OUT.pth or OUT.safetensors"
    )
    args = parser.parse_args()
    config = export_model(model_config(args), args.output, trust_weights=args.trust_weights)
    print(f"Wrote {args.output} and {config}")


if __name__ == "__main__":
    run_tool(main)
