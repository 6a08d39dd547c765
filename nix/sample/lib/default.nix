# Makes systems without nixpkgs, which cannot be had offline: every derivation is built by the sandbox's own /bin/sh
# (a busybox). The results have the layout and the contract of NixOS's toplevels, as far as a device's switch needs them.
{ channel, system }:
let
  build =
    name: script: variables:
    derivation (
      variables
      // {
        inherit name system;
        builder = "/bin/sh";
        args = [ "-eu" script ];
      }
    );

  userland = build "userland-1.35" ./build-userland.sh { };

  packages = builtins.mapAttrs (
    name: package:
    build "${name}-${package.version}" ./build-package.sh {
      inherit name;
      inherit (package) version size;
      needs = map (need: packages.${need}) package.needs;
    }
  ) channel.packages;

  systemPath = build "system-path" ./build-system-path.sh {
    inherit userland;
    systemctl = ./systemctl.sh;
    packages = builtins.attrValues packages;
  };
in
{
  makeSystem = import ./system.nix {
    inherit build userland packages systemPath;
    inherit (channel) release;
  };
}
