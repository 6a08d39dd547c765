# Makes the container in which a device's own programs run, and runs one in it. A static busybox runs this script, because
# after pivot_root nothing of the operator's system is left to be run. Called by container.ts only, in two steps:
#
#   stage BUSYBOX STORE ROOT UID SETPRIV NEXT…   Only where the peer is root, in a mount namespace of its own: puts what the
#       container needs where an unprivileged user may reach it, becomes the user UID, goes on with NEXT.
#   enter BUSYBOX STORE ROOT PROGRAM…   In fresh user, mount, process, network, ipc, host name and cgroup namespaces: leaves
#       the operator's system for good, gives up every capability, says so on standard error and runs PROGRAM.
#
# STORE is the folder to show as /nix/store, ROOT the one that holds the device's run, var, etc and tmp.
set -eu
step=$1 busybox=$2 store=$3 root=$4
shift 4

stage() {
  uid=$1 setpriv=$2
  shift 2
  stage=$root/.container
  "$busybox" mount -t tmpfs -o mode=755,size=16m,nosuid,nodev stage "$stage"
  "$busybox" mkdir "$stage/store" "$stage/root" "$stage/root/.container"
  "$busybox" mount -o bind "$store" "$stage/store"
  for folder in run var etc tmp; do
    "$busybox" mkdir "$stage/root/$folder"
    "$busybox" mount -o bind "$root/$folder" "$stage/root/$folder"
  done
  "$busybox" cp "$busybox" "$stage/busybox"
  "$busybox" cp "$0" "$stage/script"
  "$busybox" chown "$uid:$uid" "$stage/root/.container"
  "$busybox" mount -o rbind "$stage" /tmp
  cd /
  exec "$setpriv" --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --pdeathsig KILL -- "$@"
}

# The first process of the container heeds SIGTERM, which the program itself may ignore; all others die with it.
init='trap "exit 143" TERM; "$@" & wait $!'

enter() {
  new=$root/.container
  "$busybox" mount -t tmpfs -o mode=755,size=16m,nosuid,nodev container "$new"
  cd "$new"
  "$busybox" mkdir -p nix/store proc dev .old
  "$busybox" mount -o bind "$store" nix/store
  "$busybox" mount -o remount,bind,ro,nosuid,nodev nix/store
  for folder in run var etc tmp; do
    "$busybox" mkdir "$folder"
    "$busybox" mount -o bind "$root/$folder" "$folder"
    "$busybox" mount -o remount,bind,nosuid,nodev "$folder"
  done
  "$busybox" mount -t proc -o nosuid,nodev,noexec proc proc
  for device in null zero random urandom; do
    : > "dev/$device"
    "$busybox" mount -o bind "/dev/$device" "dev/$device"
  done
  "$busybox" hostname device
  "$busybox" cp "$busybox" busybox
  "$busybox" pivot_root . .old
  cd /
  /busybox umount -l /.old
  /busybox rmdir /.old
  # No namespaces inside: in one of its own a program would have every capability again.
  for kind in user mnt pid net ipc uts; do echo 0 > "/proc/sys/user/max_${kind}_namespaces"; done
  # Every process of an earlier switch died with its container: its lock is stale.
  /busybox rm -rf /run/nixos/switch-to-configuration.lock
  /busybox mount -o remount,bind,ro /
  ulimit -c 0
  ulimit -u 1024
  # What the peer itself inherited from whoever started it.
  for descriptor in /proc/self/fd/*; do
    number=${descriptor##*/}
    [ "$number" -le 2 ] || eval "exec $number>&-"
  done
  echo parley-container-entered >&2
  exec /busybox setpriv --inh-caps=-sys_admin,-sys_resource -- \
    /busybox env -i PATH=/run/current-system/sw/bin HOME=/root TERM=dumb /busybox sh -c "$init" init "$@"
}

"$step" "$@"
