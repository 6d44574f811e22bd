"""Whether a torch archive is what it unpacks to: a file of another's making may name far more than it holds.

torch stores every record as it is. A record that is packed, and records that share their bytes, unpack to any size.
"""

from __future__ import annotations

import zipfile
from typing import IO

from usepcli.errors import BadInput

_SPARE = 1 << 20  # bytes
_MOST_RECORDS = 100_000


def check(file: IO[bytes], where: str) -> None:
    """BadInput where a zip archive takes more memory than its own size; the file's place is at its start afterwards.

    What is no zip archive is left to its reader.
    """
    try:
        if not zipfile.is_zipfile(file):
            return
        size = file.seek(0, 2)
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
        unpacked = sum(record.file_size for record in records)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return
    finally:
        file.seek(0)
    if unpacked > size + _SPARE or len(records) > _MOST_RECORDS:
        raise BadInput(
            f"{where}: unpacks from {size / 2**20:.1f} to {unpacked / 2**20:.1f} MiB in {len(records)} records, and "
            "torch packs nothing: not an archive of torch's making; if you trust it, save it anew with torch.save"
        )
