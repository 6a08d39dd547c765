# The fleet's policy: what Parley reads of a committed revision before it plans a deploy.
{ hosts }:
{
  hosts = builtins.mapAttrs (name: host: { tags = host.tags or [ ]; }) hosts;

  rollout = {
    waves = [ { on = "@all"; } ];
    onFailure = "continue";
  };

  operators = {
    alice.roles = [ "deployer" "approver" ];
    bob.roles = [ "deployer" "approver" ];
    carol.roles = [ "viewer" ];
  };
}
