# Joins a host's parts to a toplevel laid out like NixOS's. There is no `systemd` entry: such a toplevel needs no booted
# systemd, and Parley may really switch to it in a container.
mkdir -p "$out/bin"
ln -s "$etc" "$out/etc"
ln -s "$systemPath" "$out/sw"
ln -s "$linux/lib/linux/part-0" "$out/kernel"
ln -s "$linux/lib/linux/part-1" "$out/initrd"
ln -s "$linux/lib/linux" "$out/kernel-modules"
printf '%s' "$release" > "$out/nixos-version"
printf '%s' "$initInterface" > "$out/init-interface-version"
printf '%s' "$system" > "$out/system"
for script in activate switch; do
  eval "source=\$$script"
  target="$out/activate"
  [ "$script" = activate ] || target="$out/bin/switch-to-configuration"
  sed -e "s|@out@|$out|g" -e "s|@userland@|$userland|g" -e "s|@failActivation@|$failActivation|g" "$source" > "$target"
  chmod 755 "$target"
done
