#!/usr/bin/env python
"""Train Mask Scoring R-CNN (or Mask R-CNN) from a config, then evaluate it."""

import sys

from detectron2.engine import launch

from msrcnn.engine import Trainer, argument_parser, evaluate, run_tool, setup


def main(args):
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, resume=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    args = argument_parser(__doc__).parse_args()
    distributed = {
        "num_machines": args.num_machines,
        "machine_rank": args.machine_rank,
        "dist_url": args.dist_url,
    }
    sys.exit(run_tool(lambda: launch(main, args.num_gpus, **distributed, args=(args,))))
