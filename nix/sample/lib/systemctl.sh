#!@userland@/bin/sh
# Answers the questions that Parley and people ask of systemctl, from what switch-to-configuration recorded.
export PATH=@userland@/bin
state=/run/sample-units
units=/run/current-system/etc/systemd/system
action=units quiet='' only='' names=''

for argument in "$@"; do
  case "$argument" in
    --failed | --state=failed) only=failed ;;
    --quiet | -q) quiet=yes ;;
    list-units) action=units ;;
    is-active | is-failed | is-system-running | status | start | restart) action=$argument ;;
    -*) ;;
    *) names="$names $argument" ;;
  esac
done

stateOf() {
  unit=$1
  case "$unit" in *.*) ;; *) unit="$unit.service" ;; esac
  if [ -e "$state/$unit" ]; then sed -n 1p "$state/$unit"; else echo inactive; fi
}
say() { [ -n "$quiet" ] || echo "$1"; }

case "$action" in
  units)
    for record in "$state"/*; do
      [ -e "$record" ] || continue
      unit=${record##*/}
      active=$(stateOf "$unit")
      [ -z "$only" ] || [ "$active" = "$only" ] || continue
      sub=$active
      [ "$active" = failed ] || sub=exited
      description=''
      [ ! -e "$units/$unit" ] || description=$(sed -n 's/^Description=//p' "$units/$unit")
      echo "$unit loaded $active $sub $description"
    done
    ;;
  is-active)
    status=3
    for unit in $names; do
      active=$(stateOf "$unit")
      say "$active"
      [ "$active" != active ] || status=0
    done
    exit "$status"
    ;;
  is-failed)
    status=1
    for unit in $names; do
      active=$(stateOf "$unit")
      say "$active"
      [ "$active" != failed ] || status=0
    done
    exit "$status"
    ;;
  is-system-running)
    if [ -z "$("$0" --failed)" ]; then
      say running
    else
      say degraded
      exit 1
    fi
    ;;
  status)
    for unit in $names; do
      case "$unit" in *.*) ;; *) unit="$unit.service" ;; esac
      echo "$unit: $(stateOf "$unit")"
      [ ! -e "/var/log/$unit.log" ] || sed 's/^/  /' "/var/log/$unit.log"
    done
    ;;
  start | restart)
    status=0
    for unit in $names; do
      case "$unit" in *.*) ;; *) unit="$unit.service" ;; esac
      command=$(sed -n 's/^ExecStart=//p' "$units/$unit") || exit 5
      result=active
      timeout 30 "$command" > "/var/log/$unit.log" 2>&1 || result=failed
      printf '%s\n%s\n' "$result" "$(readlink -f "$units/$unit")" > "$state/$unit"
      [ "$result" = active ] || status=1
    done
    exit "$status"
    ;;
esac
