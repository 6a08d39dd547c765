# The sandbox's shell is a static busybox: a copy of it is the devices' userland.
mkdir -p "$out/bin"
cp /bin/sh "$out/bin/busybox"
chmod 755 "$out/bin/busybox"
for tool in $("$out/bin/busybox" --list); do
  [ "$tool" = busybox ] || ln -s busybox "$out/bin/$tool"
done
