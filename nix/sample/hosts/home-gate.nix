{
  tags = [ "home" "gateway" ];
  message = "Welcome to the gateway of the home.";
  services = {
    firewall = "echo 'rules loaded' > /run/firewall";
    resolver = "echo 'nameserver 127.0.0.1' > /run/resolver.conf";
  };
}
