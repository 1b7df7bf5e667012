#!/usr/bin/env bash
# Deploys facerelay to one resource group, from nothing or over what is there: run it as often as you like.
#
#   infra/deploy.sh --environment dev --location westeurope
#   infra/deploy.sh --environment prod --location westeurope --dry-run
#
# Steps, in order; --only NAME runs one of them:
#   providers     register what the subscription needs once
#   group         the resource group
#   what-if       show what would change
#   infrastructure  main.bicep
#   package       code and model weights into build/package.zip
#   code          send the package; the platform installs requirements.txt
#   subscription  eventgrid-subscription.bicep, once the code's blob trigger is known
#   smoke         health, and requests that have to be refused
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly BICEP=infra/bicep
readonly STEPS=(providers group what-if infrastructure package code subscription smoke)

environment=""
location=""
group=""
only=""
dry_run=false
assume_yes=false
pack=facenet
python=.venv/bin/python
overrides=()

usage() {
  cat <<'USAGE'
usage: infra/deploy.sh --environment NAME --location REGION [options]

  --environment NAME  dev, prod, or any NAME for which infra/bicep/NAME.parameters.json exists
  --location REGION   such as westeurope; Flex Consumption must be offered there
  --group NAME        resource group (facerelay-NAME)
  --pack NAME         model pack whose weights are sent (facenet)
  --set NAME=VALUE    a parameter of main.bicep, or @FILE with several; may be repeated
  --only STEP         one step: providers group what-if infrastructure package code subscription smoke
  --yes               do not ask after what-if
  --dry-run           print every command in order, run none
USAGE
}

die() {
  printf 'deploy: %s\n' "$*" >&2
  exit 2
}

parse() {
  while (($#)); do
    case "$1" in
      --environment | --location | --group | --pack | --set | --only)
        (($# > 1)) || die "$1 needs a value"
        case "$1" in
          --environment) environment=$2 ;;
          --location) location=$2 ;;
          --group) group=$2 ;;
          --pack) pack=$2 ;;
          --set) overrides+=("$2") ;;
          *) only=$2 ;;
        esac
        shift 2
        ;;
      --yes) assume_yes=true && shift ;;
      --dry-run) dry_run=true && shift ;;
      --help | -h) usage && exit 0 ;;
      *) usage >&2 && die "unknown option $1" ;;
    esac
  done
  [[ -z $only || " ${STEPS[*]} " == *" $only "* ]] || die "there is no step $only"
  [[ $only == package ]] && return
  [[ -n $environment ]] || die "--environment is missing"
  [[ -n $location ]] || die "--location is missing"
  [[ -n $only && $only != what-if && $only != infrastructure ]] ||
    [[ -f $BICEP/$environment.parameters.json ]] || die "there is no $BICEP/$environment.parameters.json"
  group=${group:-facerelay-$environment}
}

# Prints the command as it could be typed; runs it unless this is a dry run.
run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  $dry_run || "$@"
}

# What a command says, without its being run in a dry run: then the name of what it would say stands for it.
ask() {
  local what=$1
  shift
  {
    printf '+'
    printf ' %q' "$@"
    printf '   # gives %s\n' "$what"
  } >&3
  if $dry_run; then
    printf '%s' "$what"
  else
    "$@"
  fi
}

# An output of main.bicep: from the environment, where azd puts them, or from the deployment.
output() {
  if [[ -n ${!1:-} ]] && ! $dry_run; then
    printf '%s' "${!1}"
  else
    ask "$1" az deployment group show --resource-group "$group" --name facerelay \
      --query "properties.outputs.$1.value" --output tsv
  fi
}

# The resource manager and new role assignments settle over minutes: what may fail at first is tried again.
retry() {
  local attempts=$1 pause_s=$2
  shift 2
  local attempt
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    run "$@" && return 0
    printf 'deploy: attempt %d of %d failed\n' "$attempt" "$attempts" >&2
    ((attempt == attempts)) || sleep "$pause_s"
  done
  return 1
}

step_providers() {
  local provider
  for provider in Microsoft.App Microsoft.Web Microsoft.Storage Microsoft.DocumentDB Microsoft.EventGrid \
    Microsoft.Insights Microsoft.OperationalInsights Microsoft.ManagedIdentity Microsoft.Network; do
    run az provider register --namespace "$provider" --wait --output none
  done
}

step_group() {
  run az group create --name "$group" --location "$location" --tags system=facerelay "environment=$environment" \
    --output none
}

template_arguments() {
  printf '%s\n' --resource-group "$group" --name facerelay --template-file "$BICEP/main.bicep" \
    --parameters "@$BICEP/$environment.parameters.json"
  local override
  for override in "${overrides[@]}"; do
    printf '%s\n' --parameters "$override"
  done
}

step_what_if() {
  local arguments
  mapfile -t arguments < <(template_arguments)
  run az deployment group what-if "${arguments[@]}"
  if ! $dry_run && ! $assume_yes && [[ -z $only ]]; then
    local answer
    read -r -p "Go on? [y/N] " answer
    [[ $answer == [yY] ]] || die "stopped before anything was changed"
  fi
}

step_infrastructure() {
  local arguments
  mapfile -t arguments < <(template_arguments)
  run az deployment group create "${arguments[@]}" --output none
}

# The committed code and the weights; nothing that lies around in the checkout.
step_package() {
  run rm -rf build/package build/package.zip
  run mkdir -p build/package
  run git archive --format=tar --output=build/package.tar HEAD function_app.py host.json requirements.txt functions shared
  run tar -xf build/package.tar -C build/package
  run rm build/package.tar
  run "$python" -m local models fetch --pack "$pack" --cache build/weights
  run mkdir build/package/weights
  run find build/weights -name '*.onnx' -exec cp {} build/package/weights/ ';'
  run "$python" -m zipfile -c build/package.zip build/package/.
}

step_code() {
  local app
  app=$(output functionApp)
  retry 3 60 az functionapp deployment source config-zip --resource-group "$group" --name "$app" \
    --src build/package.zip --build-remote true --timeout 1200 --output none
}

step_subscription() {
  local app storage topic
  app=$(output functionApp)
  storage=$(output storageAccount)
  topic=$(output eventTopic)
  retry 5 60 az deployment group create --resource-group "$group" --name facerelay-subscription \
    --template-file "$BICEP/eventgrid-subscription.bicep" \
    --parameters "topicName=$topic" "functionAppName=$app" "storageName=$storage" --output none
}

step_smoke() {
  local host answer
  host=$(output functionHost)
  # A cold instance loads the models before it says that it is ready.
  run curl --fail --silent --show-error --retry 12 --retry-delay 10 --retry-all-errors --max-time 60 \
    "https://$host/health"
  # Plain HTTP is sent elsewhere or refused, never answered. curl fails when a connection is refused, and says 000.
  answer=$(ask 301 curl --silent --max-time 30 --output /dev/null --write-out '%{http_code}' "http://$host/health" || true)
  case $answer in
    200) die "http://$host answered without TLS" ;;
    000) printf 'deploy: http://%s does not answer, as it should be\n' "$host" >&2 ;;
    *) ;;
  esac
  # Who shows no token learns nothing.
  answer=$(ask 401 curl --silent --max-time 60 --output /dev/null --write-out '%{http_code}' \
    "https://$host/database/people" || true)
  [[ $answer == 401 ]] || die "https://$host/database/people answered ${answer:-nothing} without a token, not 401"
}

main() {
  parse "$@"
  exec 3>&1
  local step
  for step in "${STEPS[@]}"; do
    if [[ -z $only || $only == "$step" ]]; then
      printf '\n# %s\n' "$step"
      "step_${step//-/_}"
    fi
  done
}

main "$@"
