"""How the stored checkpoints were made: tiny untrained models of asteroid 0.7.0, their input and their output.

    pip install asteroid
    python tests/engine/exchange/foreign/make.py

Every NAME.pth is torch.save(model.serialize()), with what a published file says besides; every NAME.npz holds
`mix` (B, T) and what asteroid's own forward makes of it, `est` (B, N, T).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from asteroid.models import ConvTasNet, DPRNNTasNet

HERE = Path(__file__).resolve().parent
SMALL = {"n_filters": 16, "bn_chan": 8, "norm_type": "gLN"}
MODELS = {
    "convtasnet": lambda: ConvTasNet(
        2, **SMALL, hid_chan=12, skip_chan=10, n_blocks=2, n_repeats=2, mask_act="relu", encoder_activation="relu"
    ),
    "convtasnet_causal": lambda: ConvTasNet(
        3, **{**SMALL, "norm_type": "cLN"}, hid_chan=12, skip_chan=0, n_blocks=2, n_repeats=1, mask_act="softmax",
        causal=True, kernel_size=20, stride=5, sample_rate=16000,
    ),
    "convtasnet_cumulative": lambda: ConvTasNet(
        2, **{**SMALL, "norm_type": "cgLN"}, hid_chan=12, skip_chan=8, n_blocks=2, n_repeats=1, causal=True
    ),
    "dprnn": lambda: DPRNNTasNet(2, **SMALL, hid_size=6, chunk_size=10, n_repeats=2, mask_act="relu"),
    "dprnn_forward": lambda: DPRNNTasNet(
        2, **{**SMALL, "norm_type": "cLN"}, hid_size=6, chunk_size=9, hop_size=4, n_repeats=1, rnn_type="GRU",
        num_layers=2, bidirectional=False, encoder_activation="relu",
    ),
}  # fmt: skip
PUBLISHED = {
    "dataset": "Toy2Mix",
    "task": "sep_clean",
    "licenses": [
        {"title": "Toy corpus", "title_link": "#", "author": "A. Toymaker", "author_link": "#",
         "license": "CC BY 4.0", "license_link": "#", "non_commercial": False},
        {"title": "Toy noises", "title_link": "#", "author": "B. Rattle", "author_link": "#",
         "license": "CC BY-NC 4.0", "license_link": "#", "non_commercial": True},
    ],
}  # fmt: skip


def main() -> None:
    """Write all files beside this one."""
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model = make().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # Away from the ones and zeros of fresh norms, so that a lost gain or bias shows.
                parameter.add_(0.2 * torch.randn_like(parameter))
            # 403 is no multiple of any stride.
            mix = torch.randn(2, 403)
            est = model(mix[:, None])
        saved = model.serialize()
        if name == "convtasnet":
            saved = {**saved, **PUBLISHED}
            saved["infos"] |= {"uploader": "C. Player", "final_metrics": {"si_sdr_imp": 1.25}}
        torch.save(saved, HERE / f"{name}.pth")
        np.savez_compressed(HERE / f"{name}.npz", mix=mix.numpy(), est=est.numpy())


if __name__ == "__main__":
    main()
