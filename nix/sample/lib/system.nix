# Makes one host's system from the plain data in hosts/<name>.nix. Options and their defaults: host.example.nix.
{ build, userland, packages, systemPath, release }:
name: host:
let
  defaults = import ../host.example.nix;
  unknown = builtins.attrNames (builtins.removeAttrs host (builtins.attrNames defaults));
  options =
    if unknown == [ ] then
      defaults // host
    else
      throw "hosts/${name}.nix sets '${builtins.head unknown}', which is no option of a host: see host.example.nix";

  failing = builtins.listToAttrs (
    map (unit: {
      name = unit;
      value = "echo '${unit} cannot start: the sample was told to let it fail'; exit 1";
    }) options.failUnits
  );

  units = builtins.mapAttrs (
    unit: command:
    build "unit-${unit}.service" ./build-unit.sh {
      inherit userland unit command systemPath;
    }
  ) (options.services // failing);

  files = options.etc // {
    hostname = "${name}\n";
    motd = "${options.message}\n";
  };

  etc = build "etc-${name}" ./build-etc.sh {
    unitNames = builtins.attrNames units;
    unitPaths = builtins.attrValues units;
    fileNames = builtins.attrNames files;
    fileTexts = map (fileName: builtins.toFile "etc-file" files.${fileName}) (builtins.attrNames files);
    fail = options.failBuild;
  };

  toplevel = build "nixos-system-${name}-${release}" ./build-toplevel.sh {
    inherit userland systemPath etc release;
    inherit (options) failActivation initInterface;
    inherit (packages) linux;
    activate = ./activate.sh;
    switch = ./switch-to-configuration.sh;
  };
in
{
  config = {
    networking.hostName = name;
    system.build.toplevel =
      if options.failEvaluation then throw "hosts/${name}.nix asks for a failing evaluation" else toplevel;
  };
}
