#!@userland@/bin/sh
# Brings files of the running machine in line with this system. As on NixOS a failing part does not stop the others: the
# system becomes the current one, and the exit status tells of the failure.
toplevel=@out@
export PATH=@userland@/bin
status=0

echo 'setting up /etc...'
mkdir -p /etc /run /var/lib
for link in /etc/*; do
  if [ -L "$link" ] && [ ! -e "$toplevel/etc/${link##*/}" ]; then rm -f "$link"; fi
done
for entry in "$toplevel"/etc/*; do
  target="/etc/${entry##*/}"
  if [ -d "$target" ] && [ ! -L "$target" ]; then
    echo "$target is a folder of the machine's own: left as it is" >&2
  else
    ln -sfn "$entry" "$target" || status=1
  fi
done

if [ -n '@failActivation@' ]; then
  echo 'the sample was told to let its activation fail' >&2
  echo "Activation script snippet 'sample' failed (1)" >&2
  status=1
fi

ln -sfn "$toplevel" /run/current-system || status=1
exit "$status"
