# A fleet's project as its owner would keep it: one nixosConfigurations entry for each file in hosts/, and the additive
# `parley` output, plain data for who may do what and in which order devices change.
{
  description = "Parley's sample fleet";

  inputs.channel.url = "git+file://@channel@";

  outputs =
    { channel, ... }:
    let
      fleet = import ./lib {
        inherit channel;
        system = "@system@";
      };
      fileNames = builtins.filter (name: builtins.match ".*\\.nix" name != null) (
        builtins.attrNames (builtins.readDir ./hosts)
      );
      hosts = builtins.listToAttrs (
        map (fileName: {
          name = builtins.head (builtins.match "(.*)\\.nix" fileName);
          value = import (./hosts + "/${fileName}");
        }) fileNames
      );
    in
    {
      nixosConfigurations = builtins.mapAttrs fleet.makeSystem hosts;
      parley = import ./parley.nix { inherit hosts; };
    };
}
