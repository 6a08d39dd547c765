{
  tags = [ "shop" "till" ];
  message = "The till of the shop.";
  services = {
    ledger = "mkdir -p /var/lib/till && touch /var/lib/till/ledger";
    receipt-printer = "echo ready > /run/receipt-printer";
  };
}
