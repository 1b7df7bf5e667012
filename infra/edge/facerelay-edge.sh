#!/usr/bin/env bash
# Installs, updates, rolls back and removes the gateway on a Debian machine without containers.
#
#   facerelay-edge.sh install --wheel facerelay-1.2.0-py3-none-any.whl
#   facerelay-edge.sh update --source /srv/facerelay --dry-run
#   facerelay-edge.sh rollback
#
# Each version has a virtual environment of its own, /opt/facerelay/VERSION; `current` names the one that runs, and
# changes in one step. What the gateway keeps (spool, configuration, secrets, models) lies elsewhere and is not touched.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly UNIT=facerelay-edge.service
readonly UNPACK='import sys, zipfile; open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("edge_uploader/requirements.txt"))'

action=""
wheel=""
source_dir=""
wheels=""
root=""
python=""
health_url=""
health_s=90
settle_s=75
dry_run=false
purge=false
check_config=true
fetch_models=true
prober=""

usage() {
  cat <<'USAGE'
usage: facerelay-edge.sh install|update|rollback|uninstall [options]

  --wheel FILE       a wheel or sdist of facerelay                       (install, update)
  --source DIR       a checkout of it instead                            (install, update)
  --wheels DIR       folder of the requirements' wheels; no network is used
  --python PROGRAM   Python 3.11 to 3.13 (the newest there is)
  --root DIR         everything under DIR instead of /: to try it out, or for an image
  --health-url URL   what must answer 200 after a start (the live page's /healthz, as the configuration has it)
  --health-s N       for how many seconds it is waited for (90)
  --settle-s N       for how many seconds it must go on doing so (75: a camera that fails is called broken
                     after 50, and stuck after stuck_s, 60)
  --no-check         do not try the configuration with the new version first
  --no-models        do not fetch the detector's weights
  --purge            remove configuration, secrets, models and spool too (uninstall)
  --dry-run          print the plan, change nothing
USAGE
}

die() {
  printf 'facerelay-edge: %s\n' "$*" >&2
  exit 2
}

say() { printf '%s\n' "$*"; }

run() {
  if $dry_run; then
    printf '  '
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}

parse() {
  (($#)) || { usage >&2 && exit 2; }
  case "$1" in
    install | update | rollback | uninstall) action=$1 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && die "there is no $1" ;;
  esac
  shift
  while (($#)); do
    case "$1" in
      --wheel | --source | --wheels | --python | --root | --health-url | --health-s | --settle-s)
        (($# > 1)) || die "$1 needs a value"
        case "$1" in
          --wheel) wheel=$2 ;;
          --source) source_dir=$2 ;;
          --wheels) wheels=$2 ;;
          --python) python=$2 ;;
          --root) root=${2%/} ;;
          --health-url) health_url=$2 ;;
          --health-s) health_s=$2 ;;
          *) settle_s=$2 ;;
        esac
        shift 2
        ;;
      --no-check) check_config=false && shift ;;
      --no-models) fetch_models=false && shift ;;
      --purge) purge=true && shift ;;
      --dry-run) dry_run=true && shift ;;
      --help | -h) usage && exit 0 ;;
      *) usage >&2 && die "unknown option $1" ;;
    esac
  done
  [[ $health_s =~ ^[0-9]+$ && $settle_s =~ ^[0-9]+$ ]] || die "--health-s and --settle-s take seconds"
  [[ -z $root || -d $root ]] || die "there is no folder $root"
  [[ $action != install && $action != update ]] && return
  [[ -n $wheel || -n $source_dir ]] || die "say what to install: --wheel FILE or --source DIR"
  [[ -z $wheel || -z $source_dir ]] || die "--wheel or --source, not both"
  [[ -z $wheel || -f $wheel ]] || die "there is no file $wheel"
  [[ -z $source_dir || -f $source_dir/pyproject.toml ]] || die "$source_dir is no checkout of facerelay"
  [[ -z $wheels || -d $wheels ]] || die "there is no folder $wheels"
}

places() {
  base=$root/opt/facerelay
  config=$root/etc/facerelay
  state=$root/var/lib/facerelay
  unit=$root/etc/systemd/system/$UNIT
  tool=$root/usr/local/bin/facerelay-edge
  logs=$root/var/log/facerelay
}

has_systemd() {
  [[ -z $root || -n ${FACERELAY_EDGE_SYSTEMCTL:-} ]] && command -v "$(systemctl_program)" >/dev/null &&
    [[ -d /run/systemd/system || -n ${FACERELAY_EDGE_SYSTEMCTL:-} ]]
}

# A test gives its own.
systemctl_program() { printf '%s' "${FACERELAY_EDGE_SYSTEMCTL:-systemctl}"; }

systemd() {
  if has_systemd; then
    run "$(systemctl_program)" "$@"
  else
    say "   no systemd here: left out: systemctl $*"
  fi
}

find_python() {
  local each
  if [[ -z $python ]]; then
    for each in python3.13 python3.12 python3.11 python3; do
      if command -v "$each" >/dev/null && usable_python "$each"; then
        python=$each
        break
      fi
    done
  fi
  [[ -n $python ]] || die "there is no Python 3.11 to 3.13; on Debian 12: apt install python3 python3-venv"
  usable_python "$python" || die "$python is not Python 3.11 to 3.13, or has no venv (apt install python3-venv)"
}

usable_python() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# The version of what is installed, and of a checkout its commit as well: two commits have one version.
version_of() {
  local name commit
  if [[ -n $wheel ]]; then
    name=$(basename "$wheel")
    [[ $name =~ ^facerelay-([0-9][A-Za-z0-9.!+_]*)(-[^-]+-[^-]+-[^-]+\.whl|\.tar\.gz)$ ]] ||
      die "$name is neither a wheel nor an sdist of facerelay"
    printf '%s' "${BASH_REMATCH[1]}"
    return
  fi
  name=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source_dir/pyproject.toml" | head -n 1)
  [[ $name =~ ^[0-9][A-Za-z0-9.!+]*$ ]] || die "$source_dir/pyproject.toml has no version"
  commit=$(git -C "$source_dir" rev-parse --short=10 HEAD 2>/dev/null || true)
  printf '%s' "$name${commit:++g$commit}"
}

linked() { [[ -L $base/$1 ]] && readlink "$base/$1" || true; }

# One step: whoever looks sees the old version or the new one.
point() {
  run ln -sfn "$2" "$base/.$1.new"
  run mv -fT "$base/.$1.new" "$base/$1"
}

make_environment() {
  local target=$base/$version pip options=(--no-input --disable-pip-version-check --quiet)
  [[ -z $wheels ]] || options+=(--no-index --find-links "$wheels")
  say "## environment $target"
  [[ $(linked current) != "$version" ]] || die "$version is installed and in use already"
  run rm -rf "$target"
  run mkdir -p "$base"
  run "$python" -m venv "$target"
  pip=$target/bin/python
  if [[ $wheel != *.whl ]]; then
    run "$pip" -m pip wheel "${options[@]}" --no-deps --wheel-dir "$target/wheel" "${wheel:-$source_dir}"
    wheel=$(find "$target/wheel" -name 'facerelay-*.whl' 2>/dev/null | head -n 1)
    wheel=${wheel:-$target/wheel/facerelay-VERSION.whl}
  fi
  # The list that the version brings: another version may need other libraries.
  run "$pip" -c "$UNPACK" "$wheel" "$target/requirements.txt"
  run "$pip" -m pip install "${options[@]}" --only-binary=:all: -r "$target/requirements.txt"
  run "$pip" -m pip install "${options[@]}" --no-deps "$wheel"
  run "$target/bin/facerelay" --help >/dev/null
}

prepare() {
  say "## folders and user"
  if [[ -z $root && $(id -u) == 0 ]]; then
    id facerelay >/dev/null 2>&1 ||
      run useradd --system --home-dir /var/lib/facerelay --no-create-home --shell /usr/sbin/nologin facerelay
  else
    say "   no user is made: only root does that, and not under --root"
  fi
  run install -d -m 0750 "$config" "$state" "$state/spool"
  run install -d -m 0700 "$config/secrets"
  run install -d -m 0750 "$logs"
  run install -d -m 0755 "$base/models" "$(dirname "$unit")" "$(dirname "$tool")"
  if id facerelay >/dev/null 2>&1 && [[ -z $root ]]; then
    run chgrp facerelay "$config"
    run chown facerelay:facerelay "$state" "$state/spool" "$logs"
  fi
  if [[ -d $state/data/blobs ]]; then
    say "   $state/data holds crops that an earlier version kept for a service on this machine (backend: local)."
    say "   The data folder is $state now: stop both, move what is in $state/data there, and give the service that folder."
  fi
}

models() {
  $fetch_models || return 0
  say "## the detector's weights"
  run "$base/$version/bin/facerelay" models fetch --edge --cache "$base/models"
}

# What the new version says of the configuration. A camera that is off must not stand in the way of an update; a file
# that the new version does not understand must, and so must a version that cannot start at all.
check() {
  $check_config || return 0
  say "## configuration"
  if [[ ! -f $config/edge.yaml ]]; then
    say "   there is no $config/edge.yaml yet"
    return 0
  fi
  if $dry_run; then
    run "$here/facerelay-edge" check --json
    return 0
  fi
  local told
  told=$(FACERELAY_EDGE_ROOT=$root FACERELAY_EDGE_VERSION=$version "$here/facerelay-edge" check --json || true)
  "$base/$version/bin/python" - "$told" "$base/health-url" <<'PYTHON' || die "$version does not take $config/edge.yaml; nothing was changed"
import json, pathlib, sys
try:
    told = json.loads(sys.argv[1])
    checks = told["checks"]
except (ValueError, KeyError):
    sys.exit("facerelay edge check gave no answer")
for each in checks:
    if each["ok"] is False:
        print("   ", each["what"], ":", each["detail"], file=sys.stderr)
if "page" in told:
    pathlib.Path(sys.argv[2]).write_text(f"{told['page']}/healthz" if told["page"] else "none")
sys.exit(any(each["ok"] is False and each["what"] == "file" for each in checks))
PYTHON
}

# The unit and the tool belong to a version, and go back with it. One that was installed before they were kept gets what
# is in place.
keep_unit() {
  local before
  before=$(linked current)
  if [[ -n $before && -f $unit && ! -f $base/$before/$UNIT ]]; then
    run install -m 0644 "$unit" "$base/$before/$UNIT"
  fi
  run install -m 0644 "$here/$UNIT" "$base/$version/$UNIT"
  run install -m 0755 "$here/facerelay-edge" "$base/$version/facerelay-edge"
}

use_version() {
  point current "$1"
  if $dry_run || [[ -f $base/$1/$UNIT ]]; then run install -m 0644 "$base/$1/$UNIT" "$unit"; fi
  if $dry_run || [[ -f $base/$1/facerelay-edge ]]; then run install -m 0755 "$base/$1/facerelay-edge" "$tool"; fi
  systemd daemon-reload
}

start() {
  if [[ ! -f $config/edge.yaml ]]; then
    say "## not started: there is no configuration yet"
    say "   $tool init"
    say "   systemctl enable --now $UNIT"
    return 0
  fi
  say "## start"
  systemd enable --quiet "$UNIT"
  systemd restart "$UNIT"
}

# Where the gateway says how it is; `none` when its configuration has no page.
asked_url() {
  if [[ -n $health_url ]]; then
    printf '%s' "$health_url"
  else
    cat "$base/health-url" 2>/dev/null || printf 'http://127.0.0.1:8090/healthz'
  fi
}

# Asks until it has been well for `settle_s`, or was not for as long as it may take. A camera that is off does not make
# it unwell; one that the new version cannot work on does, after some attempts.
healthy() {
  local url
  url=$(asked_url)
  has_systemd || {
    say "   no systemd here: $url is not asked"
    return 0
  }
  if [[ ! -f $config/edge.yaml ]]; then return 0; fi
  say "## health: $url, within $health_s s and then for $settle_s s"
  ! $dry_run || return 0
  # Beside this shell, so that a signal is heard at once.
  "$base/current/bin/python" - "$url" "$health_s" "$settle_s" "$(systemctl_program)" "$UNIT" <<'PYTHON' &
import subprocess, sys, time, urllib.request
url, health_s, settle_s, systemctl, unit = sys.argv[1], *map(float, sys.argv[2:4]), *sys.argv[4:]


def trouble():
    if url == "none":
        done = subprocess.run([systemctl, "is-active", unit], capture_output=True, text=True)
        return None if done.returncode == 0 else done.stdout.strip() or "the service does not run"
    try:
        with urllib.request.urlopen(url, timeout=5):
            return None
    except OSError as error:
        return getattr(error, "reason", error)


began, well_since = time.monotonic(), None
while True:
    told, now = trouble(), time.monotonic()
    well_since = None if told else well_since or now
    if well_since and now - well_since >= settle_s:
        sys.exit(print("   well"))
    if told and now - began >= health_s:
        sys.exit(f"   not well: {told}")
    time.sleep(min(1.0, max(health_s / 10, 0.1)))
PYTHON
  prober=$!
  wait "$prober"
}

put_in_place() {
  local before
  before=$(linked current)
  say "## swap: current -> $version${before:+ (was $before)}"
  # Whoever is interrupted has not seen it well for long enough.
  [[ -z $before ]] || trap 'trap - INT TERM HUP; interrupted "$before"' INT TERM HUP
  use_version "$version"
  start || true
  if healthy; then
    trap - INT TERM HUP
    [[ -z $before ]] || point previous "$before"
    remove_old
    finished "$version"
    return 0
  fi
  [[ -n $before ]] || die "$version does not get healthy; look at: journalctl -u $UNIT"
  trap - INT TERM HUP
  taken_back "$before" "does not get healthy"
}

interrupted() {
  [[ -z $prober ]] || kill "$prober" 2>/dev/null || true
  taken_back "$1" "was interrupted"
}

taken_back() {
  say "## $version $2: back to $1"
  use_version "$1"
  start || true
  healthy || die "$1 does not get healthy either; look at: journalctl -u $UNIT"
  die "$version was taken back; $1 runs. $base/$version is kept for a look"
}

finished() {
  if $dry_run; then say "nothing was changed: this was a dry run"; else say "$1 is in place"; fi
}

# The one that runs and the one before it stay.
remove_old() {
  local each name
  for each in "$base"/*/; do
    name=$(basename "$each")
    [[ -L ${each%/} || $name == models || ! -f $each/pyvenv.cfg ]] && continue
    [[ $name == "$(linked current)" || $name == "$(linked previous)" ]] || run rm -rf "${each%/}"
  done
}

rollback() {
  local before now
  now=$(linked current)
  before=$(linked previous)
  [[ -n $before && -d $base/$before ]] || die "there is no earlier version to go back to"
  version=$before
  check
  say "## swap: current -> $before (was $now)"
  use_version "$before"
  point previous "$now"
  start || true
  healthy || die "$before does not get healthy; look at: journalctl -u $UNIT"
  finished "$before"
}

uninstall() {
  say "## service"
  systemd disable --now "$UNIT"
  run rm -f "$unit" "$tool"
  systemd daemon-reload
  say "## versions"
  run rm -rf "$base"
  if $purge; then
    say "## configuration, secrets and spool"
    run rm -rf "$config" "$state"
  else
    say "   kept: $config and $state (crops that were not sent yet are in $state/spool)"
  fi
}

main() {
  parse "$@"
  places
  if ! $dry_run && [[ -z $root && $(id -u) != 0 ]]; then die "this needs root, or --root DIR to try it out"; fi
  case "$action" in
    rollback) rollback ;;
    uninstall) uninstall ;;
    *)
      find_python
      version=$(version_of)
      [[ $action == install || -n $(linked current) ]] || die "nothing is installed yet: install comes first"
      make_environment
      prepare
      models
      keep_unit
      check
      put_in_place
      ;;
  esac
}

main "$@"
