#!/usr/bin/env bash
# The slim runtime on an emulated ARM64 Debian: installs this checkout's wheel with the extra of each artifact's target
# in an environment of its own, and runs the artifact's golden self-test there. Emulated, so it says nothing of speed.
#
#   sudo tests/scripts/arm64.sh ROOT ARTIFACT...
#
# ROOT receives the root filesystem (0.5 GB; kept and used again). Wants root, a Python of this checkout (PYTHON, else
# .venv), and from Debian: apt-get install debootstrap qemu-user-static binfmt-support. Downloads Debian's arm64
# packages and the wheels of the extras; about ten minutes on two cores, most of them the first time.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }

root=$(realpath -m "$1")
shift
project=$(cd "$(dirname "$0")/../.." && pwd)
python=$(realpath -s "${PYTHON:-$project/.venv/bin/python}")
suite=${SUITE:-bookworm} mirror=${MIRROR:-http://deb.debian.org/debian}
for tool in debootstrap qemu-aarch64-static update-binfmts; do
  command -v $tool >/dev/null || { echo "error: $tool is missing: see the head of $0" >&2; exit 2; }
done
[[ $(id -u) == 0 ]] || { echo "error: chroot wants root" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The kernel hands ARM programs to qemu, which it holds open, so that none need stand in ROOT.
mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
[[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]] || update-binfmts --enable qemu-aarch64

if [[ ! -e $root/srv/ready ]]; then
  debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-venv,python3-pip "$suite" "$root" "$mirror"
  chroot "$root" /debootstrap/debootstrap --second-stage
  touch "$root/srv/ready"
fi
# What an ARM kernel tells of its processor: qemu-user emulates the instructions of one Cortex-A72, not the kernel's
# files, and without them OpenVINO's CPU plugin ends in an endless loop or a segmentation fault.
cpu=$root/sys/devices/system/cpu node=$root/sys/devices/system/node/node0
mkdir -p "$cpu"/cpu0/{topology,regs/identification} "$node"
printf '%s\n' 'processor : 0' 'Features : fp asimd crc32 cpuid' 'CPU implementer : 0x41' 'CPU architecture: 8' \
  'CPU variant : 0x0' 'CPU part : 0xd08' 'CPU revision : 3' '' >"$root/proc/cpuinfo"
echo 0x00000000410fd083 >"$cpu/cpu0/regs/identification/midr_el1"
for file in "$cpu"/{possible,present,online} "$node"/{cpulist,../online} \
  "$cpu"/cpu0/topology/{{core_cpus,package_cpus,thread_siblings,core_siblings}_list,core_id,physical_package_id}; do
  echo 0 >"$file"
done
for file in "$node/cpumap" "$cpu"/cpu0/topology/{core_cpus,package_cpus,thread_siblings,core_siblings}; do
  echo 1 >"$file"
done

in_arm() { chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root LC_ALL=C.UTF-8 QEMU_CPU=cortex-a72 "$@"; }
version=$(in_arm python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
echo "$(in_arm uname -m), Debian $(cat "$root/etc/debian_version"), Python $version, emulated by $(qemu-aarch64-static --version | head -1)"

mkdir "$work/project"
(cd "$project" && git ls-files -coz --exclude-standard | tar -c --null -T - ) | tar -x -C "$work/project"
mkdir -p "$root/srv/wheels"
rm -f "$root"/srv/wheels/edgeseg-*.whl
"$python" -m build --wheel --no-isolation --outdir "$root/srv/wheels" "$work/project" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; exit 1; }
wheel=$(basename "$root"/srv/wheels/edgeseg-*.whl)
platforms=()
for glibc in 17 24 26 27 28 31 34 35 36; do platforms+=(--platform "manylinux_2_${glibc}_aarch64"); done

for artifact in "$@"; do
  name=$(basename "$artifact")
  target=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["target"])' "$artifact/manifest.json")
  if [[ ! -e $work/$target ]]; then
    "$python" -m pip --quiet --quiet download --disable-pip-version-check --only-binary=:all: "${platforms[@]}" --platform manylinux2014_aarch64 \
      --python-version "$version" --dest "$root/srv/wheels" "$root/srv/wheels/$wheel[$target]"
    rm -rf "$root/srv/$target"
    in_arm python3 -m venv --without-pip "/srv/$target"
    in_arm python3 -m pip --python "/srv/$target/bin/python" install --quiet --no-index --no-compile --find-links /srv/wheels \
      "/srv/wheels/$wheel[$target]"
    packages=$(in_arm python3 -m pip --python "/srv/$target/bin/python" list --format freeze | tr '\n' ' ')
    echo "$target: $(du -sm "$root/srv/$target/lib" | cut -f1) MB in $packages"
    touch "$work/$target"
  fi
  rm -rf "$root/srv/artifact"
  cp -r "$artifact" "$root/srv/artifact"
  echo "$name: $(in_arm "/srv/$target/bin/python" -m edgeseg.runtimes /srv/artifact)"
done
