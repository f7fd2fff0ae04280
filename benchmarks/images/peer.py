"""One run of img2dataset in its own environment; prints one line of JSON.

Usage: peer.py URL IMAGES CONNECTIONS MODE DIGESTS FOLDER

MODE: keep, decode or resize. DIGESTS 0: without sha256.

Start-up (imports, about as long as a thousand images) is left out of both figures: seconds are those between
the first shard's start and the last one's end by its own statistics, CPU seconds those beyond a run of one
image.
"""

import json
import resource
import shutil
import sys
from pathlib import Path

MODES = {
    # Bytes as they came, nothing looked at.
    "keep": {"disable_all_reencoding": True},
    # Decoded to see that it can be, bytes kept.
    "decode": {"resize_mode": "no", "skip_reencode": True},
    "resize": {
        "resize_mode": "keep_ratio_largest",
        "image_size": 384,
        "resize_only_if_bigger": True,
        "encode_quality": 90,
    },
}


def main():
    url, images, connections, mode, digests, folder = sys.argv[1:]
    from img2dataset import download

    def run(count, name):
        Path(folder).mkdir(exist_ok=True)
        listing, out = Path(folder, f"{name}.txt"), Path(folder, name)
        with listing.open("w") as file:
            file.writelines(f"{url}/photos/{one}/medium.jpg\n" for one in range(1, count + 1))
        before = cpu()
        download(
            url_list=str(listing),
            output_folder=str(out),
            output_format="webdataset",
            input_format="txt",
            processes_count=1,
            thread_count=int(connections),
            number_sample_per_shard=10_000,
            retries=2,
            compute_hash="sha256" if int(digests) else None,
            enable_wandb=False,
            **MODES[mode],
        )
        spent = cpu() - before
        stats = [json.loads(path.read_text()) for path in out.glob("*_stats.json")]
        return spent, stats

    try:
        startup, _ = run(1, "one")
        spent, stats = run(int(images), "all")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "images": sum(one["successes"] for one in stats),
        "failed": sum(one["count"] - one["successes"] for one in stats),
        "seconds": max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats),
        "cpu": max(spent - startup, 0.0),
    }
    print(json.dumps(result))


def cpu():
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


if __name__ == "__main__":
    main()
