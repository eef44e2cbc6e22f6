# SPDX-License-Identifier: GPL-3.0-or-later
# scripts/run for PowerShell on Linux, on macOS and in WSL: on Windows itself no node runs.
$ErrorActionPreference = "Stop"
if ($env:OS -eq "Windows_NT") {
    [Console]::Error.WriteLine("run: a node needs Linux or macOS; on Windows: run this in WSL")
    exit 2
}
& (Join-Path $PSScriptRoot "run") @args
exit $LASTEXITCODE
