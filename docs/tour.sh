#!/usr/bin/env bash
# Five minutes with usep, on what comes with it: separate, listen, remix, score, learn. Writes to the folder tour/ alone.
#   bash docs/tour.sh          (in a copy of the repository, usep installed)
set -euo pipefail
[ ! -e tour ] || { echo "tour/ is there already; remove it, or go where there is none" >&2; exit 73; }
samples=$(cd "$(dirname "$0")/../usepcli/samples" && pwd)
mkdir -p tour/recordings && cp "$samples/two_talkers.flac" tour/ && cp -r "$samples/testset" tour/
for mixture in "$samples"/testset/*/mix.flac; do  # as if nothing else were known of them
  cp "$mixture" "tour/recordings/$(basename "$(dirname "$mixture")").flac"
done

step() {
  printf '\n$ %s\n' "$*"
  "$@"
}

cd tour
step usep models                                                    # what comes with usep
step usep separate two_talkers.flac -o apart --report               # a file for each, and a page to hear them
step usep remix apart/outputs.csv --gain 2=-12 -o softer.wav        # the second talker 12 dB softer
step usep evaluate default --data testset --metric si-snri -o scores    # how good it is on eight mixtures
step usep prepare-data recordings -o data                           # mixtures alone, no source is known
step usep train --profile small_mixit --set data.manifest=data --set train.max_steps=30 -o runs/mine
step usep separate two_talkers.flac --model runs/mine -o mine       # of thirty updates, a taste and no model
