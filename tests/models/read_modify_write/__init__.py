# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of read-modify-write on the same keys as plain puts and gets, while layouts change and
what was deleted is collected.

It has none of the store's code: it is the rules, as short as they can be told, so that many
schedules can be tried in little time and each rule can be left out on purpose (`switches`). A world
is a handful of nodes, two keys of one partition, a few clients, and a seed that decides all of what
happens: which messages are late or lost, which coordinators die, how wrong the clocks are, when
replicas copy records to one another, tell digests, lock and collect, when copies move, and which
disk is lost. `checker` judges what the clients saw and what is left.

    values      records, versions, and what the messages carry
    replica     what one disk holds, and the steps of a replica: each is atomic and durable
    world       time, the network, the log of layouts
    rounds      asking the replicas of a layout, with its quorums
    decision    consensus on the successor of one version
    writing     put, delete, get
    updating    read-modify-write, and combining several in one proposal
    collecting  agreeing on digests, locking, dropping
    changing    layouts that follow one another; pulls; lost disks
    clients     who asks for what
    checker     whether each operation took effect once
"""
