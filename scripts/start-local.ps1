# SPDX-License-Identifier: GPL-3.0-or-later
# scripts/start-local for PowerShell on Linux, on macOS and in WSL: on Windows itself no node runs.
# Each argument is in quotes, as PowerShell divides others at colons and commas:
#
#   ./scripts/start-local.ps1 '-nodes=http://192.168.1.10:8000,http://192.168.1.11:8000'
$ErrorActionPreference = "Stop"
if ($env:OS -eq "Windows_NT") {
    [Console]::Error.WriteLine("start-local: a node needs Linux or macOS; on Windows: run this in WSL")
    exit 2
}
if ($args | Where-Object { $_ -isnot [string] -or $_.EndsWith(":") }) {
    [Console]::Error.WriteLine("start-local: PowerShell divided an argument: write it in quotes, '-nodes=...'")
    exit 2
}
& (Join-Path $PSScriptRoot "start-local") @args
exit $LASTEXITCODE
