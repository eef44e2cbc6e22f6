# SPDX-License-Identifier: GPL-3.0-or-later
# Starts one node at this machine's address on the local network. All nodes of the list are founders,
# so nobody has to be joined. The first machine makes the secret; copy that file to the others.
#
#   ./scripts/start-local.ps1 -nodes=http://192.168.1.10:8000,http://192.168.1.11:8000
#
# $env:PORT (8000), $env:ADDRESS (that of the default route) and $env:SECRET (./quorate-secret) may
# be set; all arguments go to `quorate serve`.
$ErrorActionPreference = "Stop"
$here = Split-Path -Parent $PSScriptRoot
$python = Join-Path $here ".venv/Scripts/python.exe"
if (-not (Test-Path $python)) {
    python -m venv (Join-Path $here ".venv")
    & $python -m pip install --quiet --editable $here
}
& $python (Join-Path $here "scripts/blocking_client.py")
$port = if ($env:PORT) { $env:PORT } else { "8000" }
$secret = if ($env:SECRET) { $env:SECRET } else { "./quorate-secret" }
$address = $env:ADDRESS
if (-not $address) {
    $route = Get-NetRoute -DestinationPrefix "0.0.0.0/0" -ErrorAction SilentlyContinue |
        Sort-Object -Property RouteMetric | Select-Object -First 1
    if ($route) {
        $address = (Get-NetIPAddress -InterfaceIndex $route.ifIndex -AddressFamily IPv4 |
            Select-Object -First 1).IPAddress
    }
}
if (-not $address) {
    [Console]::Error.WriteLine("start-local: this machine has no default route: set ADDRESS to its address")
    exit 2
}
if (-not ($args -match "^--?(nodes|discover)")) {
    [Console]::Error.WriteLine("start-local: who else? give -nodes=http://${address}:$port,http://ANOTHER:$port to each")
    exit 2
}
if (-not (Test-Path $secret)) {
    & $python -m quorate secret new | Out-File -Encoding ascii $secret
    if ($LASTEXITCODE -ne 0) { Remove-Item $secret; exit $LASTEXITCODE }
    icacls $secret /inheritance:r /grant:r "${env:USERNAME}:F" | Out-Null
    [Console]::Error.WriteLine("start-local: made ${secret}: copy it to the other machines before they start")
}
& $python -m quorate serve "-port=$port" "-listen=${address}:$port" `
    "-advertise=http://${address}:$port" "-secret-file=$secret" @args
exit $LASTEXITCODE
