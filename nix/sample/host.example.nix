# Every option of a host with its default. Copy to hosts/<name>.nix; the file's name is the host's name.
{
  # Groups for selectors: `deploy @shop`.
  tags = [ ];
  # The device's /etc/motd.
  message = "";
  # Units by name: each a shell command that runs once when the unit starts. An exit status other than 0 is a failed unit.
  services = { };
  # Files below /etc by name.
  etc = { };

  # Ways to break this host, and only this host:
  # the evaluation throws,
  failEvaluation = false;
  # the build fails with a log,
  failBuild = false;
  # `activate` fails while the device switches (exit status 2: rolled back),
  failActivation = false;
  # these units fail after the switch (exit status 4: degraded),
  failUnits = [ ];
  # a device that runs another number cannot switch without a reboot (exit status 100).
  initInterface = 2;
}
