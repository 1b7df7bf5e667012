// Private networking: one network, one subnet for the app, one for the private endpoints, and the names that make the
// SDKs find them. Deployed only when asked for.

param name string
param location string
param tags object

param networkPrefix string

@description('A /26 carries forty instances and more; its name must not have an underscore.')
param appSubnetPrefix string
param endpointSubnetPrefix string

param storageId string
param storageName string
param cosmosId string
param cosmosName string

var endpoints = [
  {
    name: '${storageName}-blob'
    serviceId: storageId
    groupId: 'blob'
    zone: 'privatelink.blob.${environment().suffixes.storage}'
  }
  {
    name: '${storageName}-queue'
    serviceId: storageId
    groupId: 'queue'
    zone: 'privatelink.queue.${environment().suffixes.storage}'
  }
  {
    name: '${storageName}-table'
    serviceId: storageId
    groupId: 'table'
    zone: 'privatelink.table.${environment().suffixes.storage}'
  }
  {
    name: '${cosmosName}-sql'
    serviceId: cosmosId
    groupId: 'Sql'
    zone: 'privatelink.documents.azure.com'
  }
]

// The default rules are what is wanted: within the network yes, from the internet no.
resource firewall 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: '${name}-nsg'
  location: location
  tags: tags
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        networkPrefix
      ]
    }
  }
}

resource appSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' = {
  parent: network
  name: 'app'
  properties: {
    addressPrefix: appSubnetPrefix
    networkSecurityGroup: {
      id: firewall.id
    }
    delegations: [
      {
        name: 'flex-consumption'
        properties: {
          serviceName: 'Microsoft.App/environments'
        }
      }
    ]
  }
}

resource endpointSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' = {
  parent: network
  name: 'endpoints'
  // Two subnets of one network cannot be written at the same time.
  dependsOn: [
    appSubnet
  ]
  properties: {
    addressPrefix: endpointSubnetPrefix
    networkSecurityGroup: {
      id: firewall.id
    }
    privateEndpointNetworkPolicies: 'Enabled'
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2020-06-01' = [for endpoint in endpoints: {
  name: endpoint.zone
  location: 'global'
  tags: tags
}]

resource zoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [for (endpoint, index) in endpoints: {
  parent: zones[index]
  name: name
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: network.id
    }
  }
}]

resource privateEndpoints 'Microsoft.Network/privateEndpoints@2024-05-01' = [for endpoint in endpoints: {
  name: endpoint.name
  location: location
  tags: tags
  properties: {
    subnet: {
      id: endpointSubnet.id
    }
    privateLinkServiceConnections: [
      {
        name: endpoint.name
        properties: {
          privateLinkServiceId: endpoint.serviceId
          groupIds: [
            endpoint.groupId
          ]
        }
      }
    ]
  }
}]

resource zoneGroups 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = [for (endpoint, index) in endpoints: {
  parent: privateEndpoints[index]
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: endpoint.groupId
        properties: {
          privateDnsZoneId: zones[index].id
        }
      }
    ]
  }
}]

output appSubnetId string = appSubnet.id
