{
  tags = [ "home" "media" ];
  message = "Music and films live here.";
  services.media-server = "mkdir -p /var/lib/media && date > /var/lib/media/started";
}
