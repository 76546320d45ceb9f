"""UDP over 100 Mbit Ethernet (MII), as small as the board's needs allow; see docs/ethernet.md."""
