"""The DNS server: queries in, answers of rules, addons or other resolvers out."""
