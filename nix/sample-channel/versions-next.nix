# What the first `update` of the sample brings: new certificates, and with them a rebuilt but otherwise equal web-runtime.
{
  release = "26.05.2";
  packages = {
    linux = { version = "6.12.30"; size = 3; needs = [ ]; };
    base-libs = { version = "2.41"; size = 7; needs = [ ]; };
    certificates = { version = "2026.5"; size = 1; needs = [ ]; };
    fonts = { version = "1.3"; size = 4; needs = [ ]; };
    media-codecs = { version = "7.1"; size = 8; needs = [ "base-libs" ]; };
    web-runtime = { version = "140.0"; size = 9; needs = [ "base-libs" "certificates" ]; };
  };
}
