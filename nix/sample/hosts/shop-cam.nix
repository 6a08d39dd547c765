{
  tags = [ "shop" "camera" ];
  message = "Watching the door.";
  services.recorder = "mkdir -p /var/lib/recorder";
}
