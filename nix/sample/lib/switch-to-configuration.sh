#!@userland@/bin/sh
# Switches a device to this system with the actions, the order of steps, the messages and the exit statuses of NixOS's own
# program: 0 fine, 1 nothing was activated, 2 activation failed, 4 units failed, 11 another switch runs, 100 needs a reboot.
# Writes only below /run, /var and /etc, and needs neither /dev nor a running systemd.
toplevel=@out@
units="$toplevel/etc/systemd/system"
state=/run/sample-units
lock=/run/nixos/switch-to-configuration.lock
export PATH="$toplevel/sw/bin"
action=${1:-}

case "$action" in
  check | switch | boot | test | dry-activate) ;;
  *)
    echo "Usage: $0 check|switch|boot|test|dry-activate" >&2
    exit 1
    ;;
esac

unlock() { rm -rf "$lock"; }

# A lock whose holder is gone was left by a kill or a power cut.
mkdir -p /run/nixos "$state" /var/log || exit 1
if ! mkdir "$lock" 2> /run/nixos/lock-error; then
  holder=$(cat "$lock/pid" 2> /run/nixos/lock-error)
  if [ -n "$holder" ] && grep -q switch-to-configuration "/proc/$holder/cmdline" 2> /run/nixos/lock-error; then
    echo 'Could not acquire lock: another switch is running' >&2
    exit 11
  fi
  mkdir -p "$lock" || exit 1
fi
echo $$ > "$lock/pid"
trap unlock EXIT
trap 'exit 143' TERM INT HUP

# Pre-switch checks.
if [ -z "${NIXOS_NO_CHECK:-}" ] && [ ! -d "$units" ]; then
  echo "pre-switch check failed: $units is missing" >&2
  exit 1
fi
[ "$action" != check ] || exit 0

# The boot loader's default.
if [ "$action" = switch ] || [ "$action" = boot ]; then
  echo 'updating the boot loader...'
  mkdir -p /var/lib/boot && ln -sfn "$toplevel" /var/lib/boot/default || exit 1
  [ "$action" != boot ] || exit 0
fi

if [ -e /run/current-system/init-interface-version ] &&
  ! cmp -s "$toplevel/init-interface-version" /run/current-system/init-interface-version; then
  echo 'Warning: the new NixOS configuration has an incompatible init; you need to reboot for it to take effect.' >&2
  exit 100
fi

# A unit is stopped when it is gone, and restarted when its file is another one or it is not active.
stopping='' starting=''
for record in "$state"/*; do
  [ -e "$record" ] || continue
  unit=${record##*/}
  [ -e "$units/$unit" ] || stopping="$stopping $unit"
done
for file in "$units"/*.service; do
  [ -e "$file" ] || continue
  unit=${file##*/}
  if [ "$(sed -n 1p "$state/$unit" 2>&1)" != active ] || [ "$(sed -n 2p "$state/$unit")" != "$(readlink -f "$file")" ]; then
    starting="$starting $unit"
  fi
done
prefix=''
[ "$action" != dry-activate ] || prefix='would be '
[ -z "$stopping" ] || echo "${prefix}stopping the following units:$stopping"
if [ "$action" = dry-activate ]; then
  [ -z "$starting" ] || echo "would be starting the following units:$starting"
  exit 0
fi
for unit in $stopping; do rm -f "$state/$unit"; done

status=0
echo 'activating the configuration...'
if ! "$toplevel/activate"; then
  echo 'Failed to run activate script' >&2
  status=2
fi

[ -z "$starting" ] || echo "starting the following units:$starting"
failed=''
for unit in $starting; do
  command=$(sed -n 's/^ExecStart=//p' "$units/$unit")
  result=active
  timeout 30 "$command" > "/var/log/$unit.log" 2>&1 || result=failed
  printf '%s\n%s\n' "$result" "$(readlink -f "$units/$unit")" > "$state/$unit"
  if [ "$result" = failed ]; then
    failed="$failed $unit"
    sed "s/^/$unit: /" "/var/log/$unit.log" >&2
  fi
done
if [ -n "$failed" ]; then
  echo "warning: the following units failed:$failed" >&2
  status=4
fi
exit "$status"
