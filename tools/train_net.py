#!/usr/bin/env python
"""Train Mask Scoring R-CNN (or Mask R-CNN) from a config, then evaluate it."""

from msrcnn.engine import Trainer, argument_parser, evaluate, launch_tool, setup


def main(args):
    cfg = setup(args)
    if args.eval_only:
        return evaluate(cfg, resume=args.resume, trust_weights=args.trust_weights)
    trainer = Trainer(cfg, trust_weights=args.trust_weights)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    launch_tool(main, argument_parser(__doc__).parse_args())
