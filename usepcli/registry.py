"""Parts by short name: plain tables of "module:attribute", imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

from usepcli.errors import ConfigError, choices

MODELS = {
    "band_path": "usepcli.models.band_path:BandPath",
    "conformer_mask": "usepcli.models.conformer_mask:ConformerMask",
    "convtasnet": "usepcli.models.convtasnet:ConvTasNet",
    "tdcnpp": "usepcli.models.tdcnpp:TDCNpp",
}
LOSSES = {
    "log_mse": "usepcli.losses.thresholded:LogMSE",
    "si_snr": "usepcli.losses.scale_invariant:SISNR",
    "snr": "usepcli.losses.thresholded:SNR",
}
OBJECTIVES = {
    "mixit": "usepcli.objectives.mixit:MixIT",
    "pit": "usepcli.objectives.pit:PIT",
}
METRICS = {
    "sar": "usepcli.metrics.bss_eval:SAR",
    "sdr": "usepcli.metrics.bss_eval:SDR",
    "sdri": "usepcli.metrics.bss_eval:SDRI",
    "si-snr": "usepcli.metrics.signal:SI_SNR",
    "si-snri": "usepcli.metrics.signal:SI_SNRI",
    "sir": "usepcli.metrics.bss_eval:SIR",
    "snr": "usepcli.metrics.signal:SNR",
    "snri": "usepcli.metrics.signal:SNRI",
}
CORPORA = {
    "csv": "usepcli.data.corpora.csv_list:CsvList",
    "folder": "usepcli.data.corpora.folder:Folder",
    "fuss": "usepcli.data.corpora.fuss:Fuss",
    "librimix": "usepcli.data.corpora.librimix:LibriMix",
    "speakers": "usepcli.data.corpora.speakers:Speakers",
    "wsj0-mix": "usepcli.data.corpora.wsj0_mix:Wsj0Mix",
}
TABLES = {
    "model": MODELS,
    "loss": LOSSES,
    "objective": OBJECTIVES,
    "metric": METRICS,
    "corpus": CORPORA,
}


def target(kind: str, name: str) -> str:
    """Return "module:attribute" of a registered part; ConfigError with suggestions if unknown."""
    table = TABLES[kind]
    if name not in table:
        raise ConfigError(choices(kind, name, table))
    return table[name]


def load(kind: str, name: str) -> Any:
    """Import and return the registered part `name` of table `kind`."""
    module, attribute = target(kind, name).split(":")
    return getattr(importlib.import_module(module), attribute)
