{
  tags = [ "shop" "kiosk" ];
  message = "Open from nine to five.";
  services.browser = "cat /etc/motd > /run/shown-page";
}
