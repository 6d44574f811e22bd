"""Parts by short name: plain tables of "module:attribute", imported on first use."""

from __future__ import annotations

import importlib
from typing import Any

from usepcli.errors import ConfigError, choices

MODELS = {
    "audio_text": "usepcli.models.audio_text:AudioText",
    "band_path": "usepcli.models.band_path:BandPath",
    "chimera": "usepcli.models.chimera:Chimera",
    "cond_unet": "usepcli.models.cond_unet:CondUNet",
    "conformer_mask": "usepcli.models.conformer_mask:ConformerMask",
    "convtasnet": "usepcli.models.convtasnet:ConvTasNet",
    "dcunet": "usepcli.models.dcunet:DCUNet",
    "dprnn": "usepcli.models.dprnn:DPRNN",
    "film_conformer": "usepcli.models.film_conformer:FilmConformer",
    "film_unet": "usepcli.models.film_unet:FilmUNet",
    "hdemucs": "usepcli.models.hdemucs:HDemucs",
    "htdemucs": "usepcli.models.htdemucs:HTDemucs",
    "mossformer2": "usepcli.models.mossformer2:MossFormer2",
    "res_unet": "usepcli.models.res_unet:ResUNet",
    "sepformer": "usepcli.models.sepformer:SepFormer",
    "sepreformer": "usepcli.models.sepreformer:SepReformer",
    "sudormrf": "usepcli.models.sudormrf:SuDoRMRF",
    "tasnet": "usepcli.models.tasnet:TasNet",
    "tdcnpp": "usepcli.models.tdcnpp:TDCNpp",
    "tfgridnet": "usepcli.models.tfgridnet:TFGridNet",
    "tflocoformer": "usepcli.models.tflocoformer:TFLocoformer",
    "tiger": "usepcli.models.tiger:TIGER",
    "tiger_stems": "usepcli.models.tiger_stems:TigerStems",
    "uncond_unet": "usepcli.models.uncond_unet:UncondUNet",
    "unet_mask": "usepcli.models.unet_mask:UNetMask",
    "upit": "usepcli.models.upit:UPIT",
}
# Those of MODELS that separate what they are asked for (models/queried.py), and the others.
QUERIED = ("audio_text", "cond_unet", "film_conformer", "film_unet", "res_unet")
UNASKED = tuple(name for name in MODELS if name not in QUERIED)
# Networks that come finished, in a format that knows its own layers: no profile may name them.
GRAPHS = {"onnx": "usepcli.models.onnx_net:OnnxNet"}
LOSSES = {
    "log_mse": "usepcli.losses.thresholded:LogMSE",
    "magnitude_l1": "usepcli.losses.magnitude:MagnitudeL1",
    "mrl1": "usepcli.losses.multires:MultiResolutionL1",
    "si_snr": "usepcli.losses.scale_invariant:SISNR",
    "snr": "usepcli.losses.thresholded:SNR",
    "spectral_mse": "usepcli.losses.spectral:SpectralMSE",
}
OBJECTIVES = {
    "adversarial_pit": "usepcli.objectives.adversarial_pit:AdversarialPIT",
    "contrastive": "usepcli.objectives.contrastive:Contrastive",
    "deep_clustering": "usepcli.objectives.deep_clustering:DeepClustering",
    "fixed": "usepcli.objectives.fixed:FixedOrder",
    "mix_and_separate": "usepcli.objectives.text_supervised:MixAndSeparate",
    "mixcycle": "usepcli.objectives.mixcycle:MixCycle",
    "mixit": "usepcli.objectives.mixit:MixIT",
    "mixpit": "usepcli.objectives.mixpit:MixPIT",
    "oct": "usepcli.objectives.oct:OCT",
    "pit": "usepcli.objectives.pit:PIT",
    "pixit": "usepcli.objectives.pixit:PixIT",
    "prompt_tuning": "usepcli.objectives.prompt_tuning:PromptTuning",
    "remix_cycle": "usepcli.objectives.remix_cycle:RemixCycle",
    "remixit": "usepcli.objectives.remixing:RemixIT",
    "self_remixing": "usepcli.objectives.remixing:SelfRemixing",
    "sup_remixit": "usepcli.objectives.sup_remixing:SupRemixIT",
    "sup_self_remixing": "usepcli.objectives.sup_remixing:SupSelfRemixing",
    "text_semi": "usepcli.objectives.text_semi:TextSemi",
    "text_supervised": "usepcli.objectives.text_supervised:TextSupervised",
    "text_weak": "usepcli.objectives.text_weak:TextWeak",
    "ts_mixit": "usepcli.objectives.ts_mixit:TeacherStudentMixIT",
    "weak_sup": "usepcli.objectives.weak_sup:WeakSup",
}
# Those of OBJECTIVES that learn from embeddings of a model's bins, beside what it separates.
EMBEDDING = ("deep_clustering",)
# Those of OBJECTIVES that train no separator but something for one, and score that themselves (Objective.own).
PREPARING = ("prompt_tuning",)
METRICS = {
    "holes": "usepcli.metrics.holes:HOLES",
    "holes-area": "usepcli.metrics.holes:HOLES_AREA",
    "pesq": "usepcli.metrics.pesq:PESQ",
    "pesqi": "usepcli.metrics.pesq:PESQI",
    "sar": "usepcli.metrics.bss_eval:SAR",
    "sdr": "usepcli.metrics.bss_eval:SDR",
    "sdri": "usepcli.metrics.bss_eval:SDRI",
    "si-snr": "usepcli.metrics.signal:SI_SNR",
    "si-snr-fuss": "usepcli.metrics.fuss:SI_SNR_FUSS",
    "si-snri": "usepcli.metrics.signal:SI_SNRI",
    "si-snri-fuss": "usepcli.metrics.fuss:SI_SNRI_FUSS",
    "sir": "usepcli.metrics.bss_eval:SIR",
    "snr": "usepcli.metrics.signal:SNR",
    "snri": "usepcli.metrics.signal:SNRI",
    "stoi": "usepcli.metrics.stoi:STOI",
    "stoii": "usepcli.metrics.stoi:STOII",
}
CORPORA = {
    "audiocaps": "usepcli.data.corpora.audiocaps:AudioCaps",
    "csv": "usepcli.data.corpora.csv_list:CsvList",
    "events": "usepcli.data.corpora.events:Events",
    "folder": "usepcli.data.corpora.folder:Folder",
    "fuss": "usepcli.data.corpora.fuss:Fuss",
    "fuss-mix": "usepcli.data.corpora.fuss_mix:FussMix",
    "labelled": "usepcli.data.corpora.labelled:Labelled",
    "librimix": "usepcli.data.corpora.librimix:LibriMix",
    "mom": "usepcli.data.corpora.mom:Moms",
    "music": "usepcli.data.corpora.music:Music",
    "sms-wsj": "usepcli.data.corpora.sms_wsj:SmsWsj",
    "speakers": "usepcli.data.corpora.speakers:Speakers",
    "tar": "usepcli.data.corpora.tar:Tar",
    "vggsound": "usepcli.data.corpora.vggsound:VGGSound",
    "wham": "usepcli.data.corpora.wham:Wham",
    "whamr": "usepcli.data.corpora.wham:Whamr",
    "wsj-mix": "usepcli.data.corpora.wsj_mix:WsjMix",
    "wsj0-mix": "usepcli.data.corpora.wsj0_mix:Wsj0Mix",
    "yfcc": "usepcli.data.corpora.yfcc:Yfcc",
}
# What says to a model by query what it is asked for (model.conditioner), and what judges its answers
# (objective.judge): encoders/base.py.
CONDITIONERS: dict[str, str] = {
    "audio_text": "usepcli.models.audio_text_opened:AudioTextWords",
    "clap": "usepcli.encoders.clap:Clap",
    "labels": "usepcli.encoders.labels:Labels",
    "lexicon": "usepcli.encoders.lexicon:Lexicon",
    "sentence": "usepcli.encoders.sentence:Sentence",
    "spelling": "usepcli.encoders.spelling:Spelling",
    "vectors": "usepcli.encoders.vectors:Vectors",
}
JUDGES: dict[str, str] = {
    "audio_text": "usepcli.models.audio_text_opened:AudioTextJudge",
    "clap": "usepcli.encoders.clap:ClapJudge",
    "tagger": "usepcli.encoders.tagger:TaggerJudge",
}
# Whose checkpoints usep can take (engine/exchange/foreign.py): one module each, asked in this order.
MAKERS = {
    "onnx": "usepcli.engine.exchange.foreign_onnx",  # first: the others open what their names do not tell
    "asteroid": "usepcli.engine.exchange.foreign_asteroid",
    "clearvoice": "usepcli.engine.exchange.foreign_clearvoice",
    "demucs": "usepcli.engine.exchange.foreign_demucs",
    "espnet": "usepcli.engine.exchange.foreign_espnet",
    "sepreformer": "usepcli.engine.exchange.foreign_sepreformer",
    "speechbrain": "usepcli.engine.exchange.foreign_speechbrain",
    "sudormrf": "usepcli.engine.exchange.foreign_sudormrf",
    "tiger": "usepcli.engine.exchange.foreign_tiger",
    "torchaudio": "usepcli.engine.exchange.foreign_torchaudio",
    "audiosep": "usepcli.engine.exchange.foreign_audiosep",  # last: any checkpoint of Lightning may be one
}
CLUSTERS = {
    "slurm": "usepcli.engine.cluster.slurm:script",
}
TABLES = {
    "model": MODELS,
    "graph": GRAPHS,
    "loss": LOSSES,
    "objective": OBJECTIVES,
    "metric": METRICS,
    "corpus": CORPORA,
    "cluster": CLUSTERS,
    "conditioner": CONDITIONERS,
    "judge": JUDGES,
}
# What parts did by default when run folders did not yet record the defaults that a run began with.
FORMER: dict[str, dict[str, dict[str, Any]]] = {
    "loss": {"mrl1": {"select_by": "snr", "log_base": "10"}},
    "objective": {"mixcycle": {"shuffle": "free"}},
}


def target(kind: str, name: str) -> str:
    """Return "module:attribute" of a registered part; ConfigError with suggestions if unknown."""
    table = TABLES[kind]
    if name not in table:
        raise ConfigError(choices(kind, name, table))
    return table[name]


def kind_of(model: str) -> str:
    """Return the table that the name of a network is looked up in: "graph", or "model" for any other."""
    return "graph" if model in GRAPHS else "model"


def maker(name: str) -> Any:
    """Import and return the module of a maker of checkpoints."""
    if name not in MAKERS:
        raise ConfigError(choices("maker", name, MAKERS))
    return importlib.import_module(MAKERS[name])


def load(kind: str, name: str) -> Any:
    """Import and return the registered part `name` of table `kind`."""
    module, attribute = target(kind, name).split(":")
    return getattr(importlib.import_module(module), attribute)
