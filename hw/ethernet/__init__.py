"""UDP over 100 Mbit Ethernet (MII or RGMII), as small as the boards allow; see docs/ethernet.md."""
