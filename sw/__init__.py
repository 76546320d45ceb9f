"""Host side of SpikeTicket: tickets, quantiser, compiler, cycle model and driver."""
