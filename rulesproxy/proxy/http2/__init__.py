"""HTTP/2 connections with clients and with origins."""
