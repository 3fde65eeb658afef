"""Train the benchmark's class-conditional model of sgm on Fashion-MNIST, and the classifier that judges its pictures.

Needs a checkout of sgm and the photographs of Debian's package dataset-fashion-mnist. Resumable: run the same command again and
it goes on where it stopped.
"""

import os
import sys
from pathlib import Path

from taylorseer_guider.commands.command import PATHS, ROOT, Parser, exit_code

FASHION = ROOT / "scripts" / "bench" / "fashion"


def arguments():
    parser = Parser(prog="train_sgm_toy.py", description=__doc__)
    add = parser.add_argument
    add("part", nargs="?", choices=("network", "classifier"), default="network", help="what to train")
    add("--sgm-root", type=Path, default=os.environ.get("SGM_ROOT"), metavar="PATH", help=PATHS["sgm_root"] + ", or SGM_ROOT")
    add("--data-dir", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="apt-get install dataset-fashion-mnist")
    add("--config", type=Path, default=FASHION / "model.yaml", help="the model, as sgm writes it down")
    add("--run-dir", type=Path, default=Path("runs/sgm_toy"), help="checkpoints and loss curve (log/*/metrics.csv)")
    add("--out", type=Path, help="where the weights go (default: beside the benchmark)")
    add("--steps", type=int, default=3000, help="of the network; the classifier takes as many as its loss needs")
    add("--epoch", type=int, default=250, help="steps between checkpoints")
    add("--batch-size", type=int, default=128)
    add("--learning-rate", type=float, default=1e-3)
    add("--seed", type=int, default=0)
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where it trains, with all pictures there")
    add("--precision", default="bf16-mixed", help="Lightning's name for it; 32-true is faster on a CPU without bfloat16")
    add("--export", type=Path, metavar="CKPT", help="only write the weights that a checkpoint holds")
    return parser


def run(args):
    if args.part == "network":
        from work.train_sgm_toy import train
    else:
        from work.train_classifier import train

    train(args)


def main(argv=None):
    args = arguments().parse_args(argv)
    args.out = args.out or FASHION / f"{args.part}.safetensors"
    return exit_code("train_sgm_toy.py", lambda: run(args), (ValueError, OSError), f"{args.run_dir} holds the last checkpoint")


if __name__ == "__main__":
    sys.exit(main())
