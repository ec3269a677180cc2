"""What bf16 costs in average precision, on a trained run."""

from pathlib import Path

from benchmarks.table import Row

RUN, DATA = Path("runs/tour/retinanet"), Path("runs/tour/town")


def run(run: Path | None, data: Path | None, **_) -> list[Row] | str:
    """AP of the trained `tiny` on its validation split after `optimize`, in bf16 and (as the peer) in fp32.

    Without a run it says how to get one.
    """
    run, data = run or RUN, data or DATA
    if not run.exists() or not data.exists():
        missing = run if not run.exists() else data
        return f"accuracy in bf16: {missing} is not there. `make tour` makes it, or name others: --run RUN --data DIR"
    from course_lib.datasets.coco import open_split
    from course_lib.engine.evaluate import detect_dataset, evaluate_results
    from course_lib.engine.model_files import load_model
    from course_lib.engine.optimize import optimize

    model, label_map, _ = load_model(run)
    dataset = open_split(data, "val", label_map=label_map)
    ap, rate = {}, {}
    for bf16 in (False, True):
        results, _, seconds = detect_dataset(optimize(model, bf16=bf16), dataset)
        ap[bf16] = evaluate_results(dataset.coco, results).summary["AP"]
        rate[bf16] = len(dataset) / seconds
    what = f"AP of {run.name} on {len(dataset)} pictures, bf16 (peer: fp32)"
    return [
        Row(what=what, ours=ap[True], peer=ap[False]),
        Row(what="  change of AP", ours=ap[True] - ap[False]),
        Row(what="  pictures a second", ours=rate[True], peer=rate[False]),
    ]
