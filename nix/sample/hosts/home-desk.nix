{
  tags = [ "home" "desk" ];
  message = "A desk for reading and writing.";
  services.printing = "mkdir -p /var/spool/print";
}
