# SPDX-License-Identifier: GPL-3.0-or-later
# Sets up and starts three nodes on this machine; all arguments go to `quorate dev`.
$ErrorActionPreference = "Stop"
$here = Split-Path -Parent $PSScriptRoot
$python = Join-Path $here ".venv/Scripts/python.exe"
if (-not (Test-Path $python)) {
    python -m venv (Join-Path $here ".venv")
    & $python -m pip install --quiet --editable $here
}
# It is not in git, and may be older than what it is made of.
& $python (Join-Path $here "scripts/blocking_client.py")
& $python -m quorate dev @args
exit $LASTEXITCODE
