# What all devices share: the userland's tools, a small systemctl, and the packages.
mkdir -p "$out/bin" "$out/share"
for tool in "$userland"/bin/*; do
  ln -s "$tool" "$out/bin/${tool##*/}"
done
sed "s|@userland@|$userland|g" "$systemctl" > "$out/bin/systemctl"
chmod 755 "$out/bin/systemctl"
for package in $packages; do
  for folder in "$package"/share/*; do
    ln -s "$folder" "$out/share/${folder##*/}"
  done
done
