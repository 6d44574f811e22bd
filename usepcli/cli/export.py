"""`usep export`: a model for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from usepcli.cli import _options as options


def export(
    model: options.ModelArg,
    to: Annotated[
        Literal["onnx", "torch-export", "openvino"],
        typer.Option("--to", help="Format: .onnx, .pt2, or .xml with .bin.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; by default the model's name.", show_default=False)
    ] = None,
    queries: Annotated[
        list[str],
        typer.Option(
            "--query", metavar="WORDS", help="What a model by query is asked for in this file; one output each."
        ),
    ] = [],  # noqa: B006 - Typer copies it
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Fix the length of the input; 0 leaves it open.")
    ] = 0.0,
    live: Annotated[
        bool, typer.Option("--live", help="Write one step on a block, with the state in and out (causal models).")
    ] = False,
    block: Annotated[
        int,
        typer.Option("--block", min=0, help="Samples of a block with --live; 0 is about 10 ms.", show_default=False),
    ] = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Largest difference from the model's samples, full scale 1.")
    ] = 1e-4,
    threads: options.Threads = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model for another runtime, and check that it separates alike.

    The file takes a mixture (1, samples) at the model's rate, full scale 1, and gives sources (1, outputs,
    samples). It is read back and compared with the model on two talkers at three lengths and on silence; the largest
    difference is printed and kept in FILE.json, with the card. Above --tolerance nothing is written (exit 65).
    Where the length cannot stay open it is fixed at 4 s, and that is said.

    With --live the file takes a block (1, samples) and the state and gives the sources of as many samples, delayed by
    `delay`, and the new state, which goes in again with the next block. FILE.json names the tensors in their order,
    FILE.state.safetensors holds the state to begin with, after `lead` samples of silence. Silence at the end brings the
    last sources. Blocks in sequence are compared with the model on the whole.

    \b
    onnx          usepcli[export]; the card lies in the metadata
    openvino      usepcli[openvino]; set INFERENCE_PRECISION_HINT=f32 where the processor has bfloat16
    torch-export  nothing else; torch.export.load unpickles parts of a .pt2, so load only what you trust

    \b
    Examples:
      usep export default --to onnx -o default.onnx
      usep export runs/small_pit --to openvino -o small_pit.xml
      usep export default --to torch-export --seconds 4 -o default_4s.pt2
      usep export runs/causal --to onnx --live --block 80 -o causal_10ms.onnx
    """
    asked = dict(locals())
    from usepcli.engine.exchange import export as work
    from usepcli.engine.separation.ending import Ending

    say = options.hushed(quiet)
    with Ending():
        facts = work.export(**options.but(asked, "as_json", "quiet"), say=lambda line: say(f"usep: {line}"))
    if not as_json:
        left_out = ("card", "versions", "state")
        facts = {key: value for key, value in facts.items() if key not in left_out and value != ""}
    options.report(facts, as_json)
