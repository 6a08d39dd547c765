# The device's /etc: its own files and its units.
if [ -n "$fail" ]; then
  for step in 1 2 3; do echo "etc: step $step of 4 done"; done
  echo 'etc: step 4 failed: the sample was told to let this build fail' >&2
  exit 7
fi
mkdir -p "$out/systemd/system"
set -- $unitPaths
for unit in $unitNames; do
  ln -s "$1/$unit.service" "$out/systemd/system/$unit.service"
  shift
done
set -- $fileTexts
for file in $fileNames; do
  mkdir -p "$(dirname "$out/$file")"
  cp "$1" "$out/$file"
  shift
done
