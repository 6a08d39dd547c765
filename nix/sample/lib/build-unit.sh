# One unit: the file that systemd would read, and the script that it starts.
mkdir -p "$out/bin"
{
  echo "#!$userland/bin/sh"
  echo "export PATH=$systemPath/bin"
  echo "$command"
} > "$out/bin/$unit-start"
chmod 755 "$out/bin/$unit-start"
cat > "$out/$unit.service" <<END
[Unit]
Description=$unit of the sample fleet
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$out/bin/$unit-start
END
