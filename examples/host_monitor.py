"""The machine that this runs on, watched: load, CPU, memory, disk, network and uptime.

    twistd -n rpiserve --port 8080 --module host_monitor

There is nothing to configure, and no Raspberry Pi needed. Then open http://localhost:8080/data.
"""

from rpiserve import App
from rpiserve.sensors import host

app = App("host-monitor")

app.sensor("cpu/load", every=5)(host.load)
app.sensor("cpu/use", every=1, unit=host.CPU_USE_UNIT)(host.CpuUse())
app.sensor("memory", every=2, unit=host.MEMORY_UNITS)(host.memory)
app.sensor("disk", every=5, unit=host.DISK_UNITS)(host.Disk("/"))
app.sensor("network", every=2, unit=host.NETWORK_UNITS)(host.Network())
app.sensor("uptime", every=1, unit=host.UPTIME_UNIT)(host.uptime)

if host.has_cpu_temperature():  # a virtual machine has none
    app.sensor("cpu/temperature", every=2, unit=host.CPU_TEMPERATURE_UNIT)(host.cpu_temperature)

if __name__ == "__main__":
    app.run(port=8080)
