#!/bin/sh
# Runs mvm on a Mac: in a Linux VM of Lima, which is made when there is none.
#   scripts/lima.sh [argument of mvm …]
# The VM is named mvm, or $MVM_LIMA_VM. mvm itself is copied to /opt/mvm in it whenever its lock file differs.
set -eu
project=$(dirname "$(dirname "$(readlink -f "$0")")")
vm=${MVM_LIMA_VM:-mvm}

if ! command -v limactl >/dev/null 2>&1; then
  echo "mvm: on macOS it runs in a Linux VM, and Lima, which makes one, is not installed" >&2
  echo "  next: brew install lima" >&2
  exit 7
fi

inside() { limactl shell --workdir / "$vm" sudo "$@"; }

# Lima's template names the image with its digest.
limactl list --quiet | grep -qx "$vm" ||
  limactl create --tty=false --name "$vm" --cpus 4 --memory 8 --disk 40 template:debian-12 >&2
[ "$(limactl list --format '{{.Status}}' "$vm")" = Running ] || limactl start --tty=false "$vm" >&2

# Lima shows the home folder in the VM under its own path. Packages of this Mac are of no use there.
if ! inside cmp -s "$project/package-lock.json" /opt/mvm/package-lock.json; then
  echo "mvm: installing into the VM $vm" >&2
  inside rm -rf /opt/mvm.new
  inside cp -R "$project" /opt/mvm.new
  inside rm -rf /opt/mvm.new/node_modules
  inside sh /opt/mvm.new/scripts/install.sh >&2
  inside rm -rf /opt/mvm
  inside mv /opt/mvm.new /opt/mvm
fi
exec limactl shell --workdir "$PWD" "$vm" sudo /opt/mvm/bin/mvm "$@"
