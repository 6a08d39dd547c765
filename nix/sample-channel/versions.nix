# The release that the sample starts with. Sizes are in MiB and the same on every device.
{
  release = "26.05.1";
  packages = {
    linux = { version = "6.12.30"; size = 3; needs = [ ]; };
    base-libs = { version = "2.41"; size = 7; needs = [ ]; };
    certificates = { version = "2026.4"; size = 1; needs = [ ]; };
    fonts = { version = "1.3"; size = 4; needs = [ ]; };
    media-codecs = { version = "7.1"; size = 8; needs = [ "base-libs" ]; };
    web-runtime = { version = "140.0"; size = 9; needs = [ "base-libs" "certificates" ]; };
  };
}
