"""Train the embedded super-resolution model. Resumable: run the same command again and it goes on where it stopped."""

import sys
from pathlib import Path

from taylorseer_guider.commands.command import ROOT, Parser, exit_code, whole

WEIGHTS = ROOT / "taylorseer_guider" / "tiny" / "weights.safetensors"


def arguments():
    parser = Parser(prog="train_tiny.py", description=__doc__)
    parser.add_argument("--data-dir", help="folder of photographs; without it, those of scikit-image and scikit-learn")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/tiny"), help="checkpoints and loss curve (log/*/metrics.csv)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the averaged weights go")
    parser.add_argument("--steps", type=whole(1, 10**7), default=9000)
    parser.add_argument("--epoch", type=whole(1, 10**6), default=250, help="steps between checkpoints and validations")
    parser.add_argument("--batch-size", type=whole(1, 10_000), default=8)
    parser.add_argument("--crop", type=whole(4, 8192), default=96, help="pixels, a multiple of 4")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--crispness", type=float, default=0.0, help="above 0: crisp photographs are seen more often")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--precision", default="bf16-mixed", help="Lightning's name for it; 32-true is faster on a CPU without bfloat16"
    )
    parser.add_argument("--init", type=Path, metavar="WEIGHTS", help="start from these weights, not from fresh ones")
    parser.add_argument(
        "--teacher", type=Path, metavar="WEIGHTS", help="learn photographs whose coarse detail is nearer to these weights' mean"
    )
    parser.add_argument("--coarse", type=float, default=0.15, help="with --teacher: the share of coarse detail that is left")
    parser.add_argument(
        "--beyond", type=float, default=1.0, help="with --teacher: write weights that are so many times as far from the teacher's"
    )
    parser.add_argument("--export", type=Path, metavar="CKPT", help="only write the weights that a checkpoint holds")
    return parser


def run(args):
    from work.train import train

    train(args)


def main(argv=None):
    args = arguments().parse_args(argv)
    return exit_code("train_tiny.py", lambda: run(args), (ValueError, OSError), f"{args.run_dir} holds the last checkpoint")


if __name__ == "__main__":
    sys.exit(main())
